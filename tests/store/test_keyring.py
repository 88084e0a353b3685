"""What a look at the directory of keys does: for the first process, for many, and when the directory goes wrong."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest

from gateway.core.assertion import AssertionPolicy
from gateway.core.rotation import AHEAD_S, CACHED_S, CLOCKS_S, KEPT_S
from gateway.store.keyring import Looked, first_look, look_again, make_next
from gateway.store.signing_keys import KeyDirectory, KeysUnusable
from tests.fakes.keys import no_space

NOW = 1e9
DAY = 86_400.0
MONTH = 30 * DAY
ROOT = Path(__file__).parents[2]


@pytest.fixture
def policy(tmp_path: Path) -> AssertionPolicy:
    return AssertionPolicy("https://gw.example.com", str(tmp_path / "keys"), rotate_after_s=MONTH)


def files(policy: AssertionPolicy) -> list[str]:
    return sorted(os.listdir(policy.keys_dir))


def kids(looked: Looked) -> list[str]:
    return [key.life.kid for key in looked.published]


def rotate(policy: AssertionPolicy, now: float, *, at_once: bool = False) -> str:
    directory = KeyDirectory(policy.keys_dir)
    found = directory.read()
    made = make_next(directory, found.keys, policy.algorithm, now, highest=found.highest, at_once=at_once)
    assert made is not None
    return made.life.kid


def test_the_first_look_makes_the_first_key_which_signs_at_once(policy: AssertionPolicy) -> None:
    looked = first_look(policy, NOW)
    assert looked.published == (looked.signing,)
    assert looked.made == (looked.signing.life,)
    assert looked.signing.life.signs_from == NOW
    again = first_look(policy, NOW + 5)
    assert (kids(again), again.made) == (kids(looked), ())


def test_a_look_keeps_the_keys_that_it_knows_as_they_are(policy: AssertionPolicy) -> None:
    looked = first_look(policy, NOW)
    assert look_again(policy, looked, NOW + 10) == Looked(looked.published, looked.signing)
    assert look_again(policy, looked, NOW + 10).signing is looked.signing


def test_the_next_is_made_by_age_and_the_old_one_goes_when_nothing_of_it_lives(policy: AssertionPolicy) -> None:
    first = first_look(policy, NOW)
    due = NOW + MONTH - AHEAD_S
    assert look_again(policy, first, due - 1).made == ()
    waiting = look_again(policy, first, due)
    assert (waiting.signing, len(waiting.published)) == (first.signing, 2)
    signs = waiting.published[1].life.signs_from
    assert signs == NOW + MONTH
    assert look_again(policy, waiting, signs - 1).signing is first.signing
    signing = look_again(policy, waiting, signs)
    assert (signing.signing, kids(signing)) == (waiting.published[1], kids(waiting))
    assert len(look_again(policy, signing, signs + KEPT_S - 1).published) == 2
    assert look_again(policy, signing, signs + KEPT_S).published == (signing.signing,)
    assert files(policy) == ["signing-key-000002.json"]


def test_years_without_anybody_looking_are_no_trouble(policy: AssertionPolicy) -> None:
    first = first_look(policy, NOW)
    later = first_look(policy, NOW + 1000 * DAY)
    assert (later.signing.life, len(later.published)) == (first.signing.life, 2)
    assert later.published[1].life.signs_from == NOW + 1000 * DAY + AHEAD_S


def test_what_a_command_makes_is_taken_up(policy: AssertionPolicy) -> None:
    first = first_look(policy, NOW)
    made = rotate(policy, NOW + 60)
    looked = look_again(policy, first, NOW + 70)
    assert kids(looked) == [first.signing.life.kid, made]
    assert looked.signing is first.signing
    assert look_again(policy, looked, NOW + 60 + AHEAD_S).signing.life.kid == made


def test_a_key_that_leaked_is_out_at_once_and_does_not_come_back(policy: AssertionPolicy) -> None:
    first = first_look(policy, NOW)
    made = rotate(policy, NOW + 60, at_once=True)
    looked = look_again(policy, first, NOW + 61)
    assert (looked.signing.life.kid, kids(looked)) == (made, [made])
    assert files(policy) == ["signing-key-000002.json"]
    KeyDirectory(policy.keys_dir).put(first.signing)  # by somebody who still has it
    assert kids(look_again(policy, looked, NOW + 62)) == [made]
    assert files(policy) == ["signing-key-000002.json"]


def test_another_algorithm_comes_as_the_next_key(policy: AssertionPolicy) -> None:
    first = first_look(policy, NOW)
    other = AssertionPolicy(policy.issuer, policy.keys_dir, algorithm="EdDSA", rotate_after_s=0)
    looked = first_look(other, NOW + 1)
    assert looked.signing.life == first.signing.life
    assert [key.life.algorithm for key in looked.published] == ["ES256", "EdDSA"]
    assert look_again(policy, looked, NOW + 2).made == ()  # and gateways of both kinds do not take turns


def test_a_file_that_is_removed_under_the_running_process_is_put_back(policy: AssertionPolicy) -> None:
    first = first_look(policy, NOW)
    waiting = look_again(policy, first, NOW + MONTH - AHEAD_S)
    for name in files(policy):
        os.unlink(os.path.join(policy.keys_dir, name))
    again = look_again(policy, waiting, NOW + MONTH - AHEAD_S + 10)
    assert again == Looked(waiting.published, waiting.signing)
    assert kids(first_look(policy, NOW + MONTH - AHEAD_S + 20)) == kids(waiting)


def test_a_directory_that_is_removed_is_made_again(policy: AssertionPolicy) -> None:
    first = first_look(policy, NOW)
    shutil.rmtree(policy.keys_dir)
    assert look_again(policy, first, NOW + 10).wrong == ()
    assert kids(first_look(policy, NOW + 20)) == kids(first)


def test_what_only_verifies_is_not_put_back(policy: AssertionPolicy) -> None:
    """Another machine, whose clock is ahead, may have removed it rightly."""
    waiting = look_again(policy, first_look(policy, NOW), NOW + MONTH - AHEAD_S)
    os.unlink(os.path.join(policy.keys_dir, files(policy)[0]))
    looked = look_again(policy, waiting, NOW + MONTH + 10)
    assert files(policy) == ["signing-key-000002.json"]
    assert kids(looked) == kids(waiting)


def test_a_directory_that_cannot_be_used_leaves_the_keys_in_force(policy: AssertionPolicy) -> None:
    first = first_look(policy, NOW)
    os.chmod(policy.keys_dir, 0o755)
    looked = look_again(policy, first, NOW + 10)
    assert (looked.published, looked.signing) == (first.published, first.signing)
    assert "chmod 700" in looked.wrong[0]
    shutil.rmtree(policy.keys_dir)
    Path(policy.keys_dir).write_text("")
    assert look_again(policy, first, NOW + MONTH).published == first.published


def test_a_full_disk_leaves_the_keys_in_force_and_the_next_look_makes_up_for_it(policy: AssertionPolicy) -> None:
    first, due = first_look(policy, NOW), NOW + 2 * MONTH
    with no_space():
        looked = look_again(policy, first, due)
    assert (looked.published, looked.made) == (first.published, ())
    assert "File too large" in looked.wrong[0]
    looked = look_again(policy, looked, due + 10)
    assert (len(looked.published), looked.wrong) == (2, ())
    assert looked.published[1].life.signs_from == due + 10 + AHEAD_S


def test_a_full_disk_at_the_start_is_said(policy: AssertionPolicy) -> None:
    with no_space(), pytest.raises(KeysUnusable, match="File too large"):
        first_look(policy, NOW)
    assert files(policy) == []


def test_a_file_that_is_no_key_stops_the_start_and_nothing_is_made_beside_it(policy: AssertionPolicy) -> None:
    first_look(policy, NOW)
    file = Path(policy.keys_dir, files(policy)[0])
    good = file.read_bytes()
    file.write_bytes(b"")
    with pytest.raises(KeysUnusable, match=r"signing-key-000001\.json"):
        first_look(policy, NOW)
    assert files(policy) == [file.name]
    file.write_bytes(good)
    assert first_look(policy, NOW).wrong == ()


def test_a_file_that_breaks_while_the_gateway_runs_is_named(policy: AssertionPolicy) -> None:
    first = first_look(policy, NOW)
    Path(policy.keys_dir, "signing-key-000007.json").write_text("{")
    looked = look_again(policy, first, NOW + 10)
    assert looked.published == first.published
    assert "signing-key-000007.json" in looked.wrong[0]
    late = look_again(policy, looked, NOW + MONTH)  # and the next key does not stumble over it
    assert late.made[0].number == 8


def test_a_clock_that_is_set_back_signs_with_what_is_published(policy: AssertionPolicy) -> None:
    waiting = look_again(policy, first_look(policy, NOW), NOW + MONTH - AHEAD_S)
    later = look_again(policy, waiting, NOW + 2 * MONTH - AHEAD_S - 60)
    assert len(later.published) == 1
    back = look_again(policy, later, NOW - 365 * DAY)
    assert (back.signing, back.published) == (later.signing, later.published)


START = """
import sys
from gateway.core.assertion import AssertionPolicy
from gateway.store.keyring import first_look
policy = AssertionPolicy("i", sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
print(first_look(policy, 1e9).signing.life.kid)
"""


def test_gateways_that_start_at_once_on_an_empty_directory_sign_with_one_key(policy: AssertionPolicy) -> None:
    command = [sys.executable, "-c", START, policy.keys_dir]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "cwd": ROOT}
    running = [subprocess.Popen(command, **pipes) for _ in range(4)]  # type: ignore[call-overload]
    for process in running:
        assert process.stdout.readline() == "ready\n"
    for process in running:
        process.stdin.write("go\n")
        process.stdin.flush()
    said = {process.communicate()[0] for process in running}
    assert len(said) == 1
    assert files(policy) == ["signing-key-000001.json"]


@pytest.mark.parametrize("seed", range(3))
def test_no_verifier_meets_an_unknown_key_with_real_files(policy: AssertionPolicy, seed: int) -> None:
    """As `tests/core/test_rotation` proves it of the decisions, with many more ways for them to be met."""
    policy = AssertionPolicy(policy.issuer, policy.keys_dir, rotate_after_s=DAY)
    random, true, used = Random(seed), NOW, set()
    offsets = [-CLOCKS_S / 2, 0.0, CLOCKS_S / 2]
    machines = [first_look(policy, true + offset) for offset in offsets]
    known, read_at = set(kids(machines[0])), true
    while true < NOW + 8 * DAY:
        true += 1500.0
        for at, offset in enumerate(offsets):
            if random.random() < 0.05:
                machines[at] = first_look(policy, true + offset)
            elif random.random() < 0.9:
                machines[at] = look_again(policy, machines[at], true + offset)
        if random.random() < 0.02:
            rotate(policy, true)
        if true - read_at > CACHED_S:
            known, read_at = set(kids(random.choice(machines))), true
        used |= {looked.signing.life.kid for looked in machines}
        assert {looked.signing.life.kid for looked in machines} <= known
    assert len(used) > 4
