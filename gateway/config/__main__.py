"""Print the JSON Schema of the configuration: `python -m gateway.config > config/schema.json`."""

import json
import sys

from gateway.config.schema import json_schema

if __name__ == "__main__":
    sys.stdout.write(json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n")
