"""A ledger is believed when nothing about it can be doubted, and each doubt is a sentence that says where and why."""

import functools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mesh.identity import Authority, seal
from mesh.ledger import Genesis, VerifierKey, checkpoint, tiles, verify
from mesh.ledger.intoto import PAYLOAD_TYPE
from mesh.types import Epoch, TaskId

BUNDLE = "tile/entries/000.p/8"
TILE = "tile/0/000.p/8"


def refused(files, *parts):
    """Verify and expect one problem among those found that has all `parts` in it."""
    found = verify(files)
    assert not found.ok
    assert any(all(part in problem for part in parts) for problem in found.problems), found.problems
    return found


def flipped(data, at, bit):
    result = bytearray(data)
    result[at] ^= 1 << bit
    return bytes(result)


def test_a_finished_run_is_believed_and_says_what_it_is(finished):
    found = verify(finished.files(), finished.authority.root_public)
    assert found.ok
    assert found.problems == ()
    assert (found.entries, found.run_id, found.verdict) == (8, "gh/4711-1", "success")
    assert found.root_public == finished.authority.root_public
    assert found.cosignatures == 1


@pytest.mark.parametrize("path", ["checkpoint", "vkeys"])
def test_a_flipped_bit_at_any_place_of_what_is_signed_is_refused(small, path):
    files = small.files()
    for at in range(len(files[path])):
        assert any(path in problem for problem in verify({**files, path: flipped(files[path], at, at % 8)}).problems)


def test_a_flipped_bit_in_the_hashes_is_refused_and_named_with_its_entry(small):
    files = small.files()
    path = "tile/0/000.p/5"
    for at in range(len(files[path])):
        refused({**files, path: flipped(files[path], at, at % 8)}, f"{path}: its hash of entry {at // 32}")


def test_a_flipped_bit_in_the_entries_is_refused_and_named(small):
    files = small.files()
    path = "tile/entries/000.p/5"
    for at in range(0, len(files[path]), 29):
        refused({**files, path: flipped(files[path], at, at % 8)}, path)


@functools.cache
def many(new_story):
    """A ledger with two bundles and two levels of tiles; the later entries need not make sense to be hashed."""
    story = new_story()
    story.genesis()
    story.joined("a1")
    story.graph(270)
    for number in range(270):
        story.done(f"p{number}:build", deps=(f"p{number - 1}:build",) if number else ())
    story.verdict()
    return story.files()


def test_a_ledger_of_many_tiles_is_believed(new_story):
    files = many(new_story)
    assert sorted(files) == [
        "checkpoint",
        "tile/0/000",
        "tile/0/001.p/18",
        "tile/1/000.p/1",
        "tile/entries/000",
        "tile/entries/001.p/18",
        "vkeys",
    ]
    assert verify(files).ok


@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_a_flipped_bit_in_any_file_of_a_larger_ledger_is_refused(new_story, data):
    files = many(new_story)
    path = data.draw(st.sampled_from(sorted(files)))
    at = data.draw(st.integers(0, len(files[path]) - 1))
    assert not verify({**files, path: flipped(files[path], at, data.draw(st.integers(0, 7)))}).ok


def test_a_changed_hash_is_named_with_its_entry_and_a_changed_upper_hash_with_its_tile(new_story):
    files = many(new_story)
    lower, upper = files["tile/0/001.p/18"], files["tile/1/000.p/1"]
    refused(
        {**files, "tile/0/001.p/18": flipped(lower, 32, 0)}, "tile/0/001.p/18", "entry 257", "tile/entries/001.p/18"
    )
    refused({**files, "tile/1/000.p/1": flipped(upper, 0, 0)}, "tile/1/000.p/1", "tile 0 of level 0")


# --- files ---------------------------------------------------------------------------------------------


def test_each_missing_file_is_named(finished):
    files = finished.files()
    for path in files:
        refused(
            {name: data for name, data in files.items() if name != path},
            f"{path}: ",
            "not there" if path == "checkpoint" else "missing",
        )


@pytest.mark.parametrize(
    "path", ["tile/0/000.p/7", "tile/entries/001.p/1", "tile/1/000.p/1", "notes.txt", "checkpoint.dte-tmp"]
)
def test_a_file_that_does_not_belong_is_named(finished, path):
    refused({**finished.files(), path: b""}, f"{path}: ", "not part of a ledger of 8 entries")


def test_an_empty_folder_is_no_ledger():
    assert verify({}).problems == (
        "checkpoint: missing: the file is not there, so nothing says what the ledger is; is this the ledger's directory?",
    )


@pytest.mark.parametrize("path", [TILE, BUNDLE])
@pytest.mark.parametrize("change", [lambda data: data[:-1], lambda data: data + b"\0", lambda data: b""])
def test_a_file_of_another_length_is_refused(finished, path, change):
    files = finished.files()
    refused({**files, path: change(files[path])}, f"{path}: ", "it ")


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data[:-1],
        lambda data: data + b"\n",
        lambda data: b" " + data,
        lambda data: data.replace(b"\n", b"\r\n"),
        lambda data: data.replace(b"\n", b" \n", 1),
        lambda data: b"\n".join(reversed(data.split(b"\n"))),
        lambda data: data.split(b"\n")[0] + b"\n",
        lambda data: data + data.split(b"\n")[1] + b"\n",
        lambda data: b"",
    ],
)
def test_the_keys_have_one_spelling_one_order_and_nothing_around_them(finished, change):
    files = finished.files()
    refused({**files, "vkeys": change(files["vkeys"])}, "vkeys: ")


def test_the_key_of_a_stranger_is_refused(finished):
    files = finished.files()
    stranger = checkpoint.witness_key(finished.keys["a3"].node_id)
    refused({**files, "vkeys": files["vkeys"] + f"{stranger.render()}\n".encode()}, "vkeys: line 3")


def test_the_key_of_a_member_may_be_there_before_it_has_signed(finished):
    files = finished.files()
    member = checkpoint.witness_key(finished.keys["a2"].node_id)
    assert verify({**files, "vkeys": files["vkeys"] + f"{member.render()}\n".encode()}).ok


# --- the checkpoint ------------------------------------------------------------------------------------


def test_a_dropped_last_entry_under_the_old_checkpoint_is_refused(finished, new_story):
    files = finished.files()
    shorter = new_story()
    for index in range(finished.ledger.size - 1):
        shorter.ledger.append(finished.ledger.entry(index))
    refused({**shorter.files(), "checkpoint": files["checkpoint"], "vkeys": files["vkeys"]}, f"{BUNDLE}: ", "missing")


def test_a_dropped_last_entry_behind_unchanged_file_names_is_refused(finished):
    files = finished.files()
    entries = tiles.split_bundle(files[BUNDLE])
    refused({**files, BUNDLE: tiles.bundle(entries[:-1])}, BUNDLE, "holds 7 entries, and 8 are expected")


def test_entries_cut_off_with_a_new_checkpoint_are_a_run_that_did_not_finish(finished, new_story):
    shorter = new_story()
    for index in range(finished.ledger.size - 1):
        shorter.ledger.append(finished.ledger.entry(index))
    assert verify(shorter.files()).problems == (
        "checkpoint: there is no verdict: the run did not finish, or its last entries were cut off",
    )


def test_swapped_entries_are_refused_though_every_hash_was_made_anew(finished, new_story):
    swapped = new_story()
    for index in (0, 2, 1, 3, 4, 5, 6, 7):
        swapped.ledger.append(finished.ledger.entry(index))
    files = {**swapped.files(), "checkpoint": finished.files()["checkpoint"], "vkeys": finished.files()["vkeys"]}
    refused(files, "checkpoint: ", "an entry was changed, moved, or left out")


def test_swapped_entries_are_refused_where_only_they_were_swapped(finished):
    files = finished.files()
    one, two, *rest = tiles.split_bundle(files[BUNDLE])
    refused({**files, BUNDLE: tiles.bundle([two, one, *rest])}, TILE, "entry 0")


@pytest.mark.parametrize("size", [0, 7, 9, 256, 999_999, 1_000_001, 10**15])
def test_a_checkpoint_of_another_size_is_refused_and_costs_no_more(finished, size):
    files = finished.files()
    text = files["checkpoint"].replace(b"\n8\n", f"\n{size}\n".encode())
    assert not verify({**files, "checkpoint": text}).ok


def test_a_checkpoint_by_somebody_else_is_refused(finished):
    files = finished.files()
    ledger = finished.ledger
    forged = checkpoint.sign(finished.keys["a1"], finished.run_id, ledger.size, ledger.root)
    key = checkpoint.log_key(finished.run_id, finished.keys["a1"].node_id).render()
    files = {**files, "checkpoint": forged.render(), "vkeys": f"{key}\n".encode()}
    refused(files, "checkpoint: ", "first signature", finished.keys["main"].node_id, "epoch 1")
    refused(files, "vkeys: ", "first line")


def test_a_cosignature_by_a_stranger_is_refused(finished):
    note = checkpoint.parse(finished.ledger.checkpoint())
    line = checkpoint.cosign(finished.keys["a3"], note, 1)
    files = {**finished.files(), "checkpoint": note.with_cosignatures([line]).render()}
    refused(files, "checkpoint: signature 3", "only nodes of the roster may sign")


def test_a_cosignature_of_another_size_is_refused(story):
    story.cosign("a1")
    early = checkpoint.parse(story.ledger.checkpoint()).signatures[1]
    story.verdict()
    note = checkpoint.parse(story.ledger.checkpoint()).with_cosignatures([early])
    key = checkpoint.witness_key(story.keys["a1"].node_id)
    files = story.files()
    files |= {"checkpoint": note.render(), "vkeys": files["vkeys"] + f"{key.render()}\n".encode()}
    refused(files, "checkpoint: signature 2 is not a valid cosignature")


def test_a_cosignature_that_stands_there_twice_is_refused(finished):
    text = finished.ledger.checkpoint()
    last = text.split(b"\n")[-2] + b"\n"
    refused({**finished.files(), "checkpoint": text + last}, "checkpoint: signature 3", "second one")


def test_a_cosigner_without_its_key_is_refused(finished):
    files = finished.files()
    first = files["vkeys"].split(b"\n")[0] + b"\n"
    refused({**files, "vkeys": first}, "vkeys: the key of", finished.keys["a1"].node_id, "missing")


# --- who may say what ----------------------------------------------------------------------------------


def test_a_ledger_of_another_secret_is_refused_by_who_knows_the_root(finished, new_story):
    other = new_story(secret=b"another secret of a stranger")
    other.genesis()
    other.verdict()
    assert verify(other.files()).ok
    (problem,) = other.problems(finished.authority.root_public)
    assert finished.authority.root_public in problem
    assert "another secret" in problem


def test_nothing_can_stand_before_the_genesis(new_story):
    story = new_story()
    story.graph(0)
    story.genesis()
    story.verdict()
    refused(story.files(), "entry 0: no genesis stands before it")
    refused(story.files(), "entry 1: a genesis can only be entry 0")


def test_a_genesis_by_another_than_its_leader_is_refused(new_story):
    story = new_story()
    honest = Genesis(
        story.run_id, story.keys["main"].node_id, "main", story.chain("main"), story.authority.root_public
    ).statement(story.keys["main"].node_id)
    story.ledger.append(seal(story.keys["a1"], honest.encode(), PAYLOAD_TYPE))
    story.verdict()
    refused(story.files(), "entry 0: the genesis names", "as the leader and was signed by", story.keys["a1"].node_id)


def test_the_signer_of_an_entry_must_be_in_the_roster(story):
    story.graph(1)
    story.done("p1:build", "a3")
    story.verdict("error")
    refused(story.files(), "entry 4: it was signed by", story.keys["a3"].node_id, "not in the roster")


def test_a_signer_must_have_joined_before_and_not_after(story):
    story.graph(1)
    story.done("p1:build", "a3")
    story.joined("a3")
    story.verdict("error")
    refused(story.files(), "entry 4: it was signed by", "not in the roster")


def test_a_member_whose_chain_leads_to_another_root_is_refused(story):
    stranger = Authority.derive(b"another secret of a stranger", story.run_id)
    story.joined("a3", chain=story.chain("a3", stranger))
    story.verdict()
    refused(story.files(), "entry 3: the certificate chain of", "does not lead to the root of the genesis")


def test_a_member_of_another_run_of_the_same_secret_is_refused(story):
    other = Authority.derive(b"s" * 32, "gh/4711-2")
    story.joined("a3", chain=story.chain("a3", other))
    story.verdict()
    refused(story.files(), "entry 3: ", "by the authority of the run gh/4711-2")


def test_a_member_with_the_certificate_of_another_is_refused(story):
    story.joined("a3", chain=story.chain("a1"))
    story.verdict()
    refused(story.files(), "entry 3: the certificate is that of", "(a1)", "(a3)")


def test_a_member_under_another_name_than_its_certificate_s_is_refused(story):
    story.joined("a3", name="main")
    story.verdict()
    refused(story.files(), "entry 3: the certificate is that of", "(a3)", "(main)")


def test_a_member_that_was_refused_may_not_sign(story):
    story.joined("a3", name="a1")
    story.graph(1)
    story.done("p1:build", "a3")
    story.verdict("error")
    refused(story.files(), "entry 5: it was signed by", "not in the roster")


def test_a_member_joins_once(story):
    story.joined("a1")
    story.verdict()
    refused(story.files(), "entry 3: ", "has joined before")


@pytest.mark.parametrize("what", ["joined", "graph", "verdict"])
def test_only_the_leader_lets_in_announces_and_judges(story, what):
    {"joined": lambda: story.joined("a3", by="a1"), "graph": lambda: story.graph(0, by="a1"), "verdict": lambda: 0}[
        what
    ]()
    story.verdict(by="a1" if what == "verdict" else "main")
    refused(story.files(), "entry 3: ", f"must be signed by {story.keys['main'].node_id}", story.keys["a1"].node_id)


def test_an_entry_of_another_run_is_refused(story):
    story.graph(0, run_id="gh/1")
    story.verdict()
    refused(story.files(), "entry 3: it belongs to the run gh/1")


def test_an_entry_that_is_no_envelope_is_named(story):
    story.ledger.append(b"hello")
    story.verdict()
    refused(story.files(), "tile/entries/000.p/5, entry 3: malformed")


def test_an_agent_signs_under_its_own_name(story):
    story.graph(1)
    story.done("p1:build", "a1", name="a2")
    story.verdict()
    refused(story.files(), "entry 4: task p1:build is said to have run on 'a2'", "'a1'")


@pytest.mark.parametrize("status", ["skipped", "cancelled"])
def test_that_nobody_ran_a_task_is_the_leader_s_to_say(story, status):
    story.graph(1)
    story.not_run("p1:build", status, by="a1")
    story.verdict("failure")
    refused(story.files(), "entry 4: task p1:build, which nobody ran, must be signed by")


# --- what may follow what ------------------------------------------------------------------------------


def test_a_task_cannot_end_before_what_it_depends_on(story):
    story.graph(2)
    story.done("p2:test", deps=("p1:build",))
    story.done("p1:build")
    story.verdict()
    refused(
        story.files(), "entry 4: task p2:test ran; it depends on p1:build, which must have ended in an earlier entry"
    )


def test_a_task_cannot_run_on_top_of_a_failed_one(story):
    story.graph(2)
    story.done("p1:build", status="failure", exit_code=1, outputs=None)
    story.done("p2:test", "a2", deps=("p1:build",))
    story.verdict("failure")
    refused(story.files(), "entry 5: task p2:test ran", "has failed in entry 4")


def test_a_task_may_run_on_top_of_one_that_was_allowed_to_fail(story):
    story.graph(2)
    story.done("p1:lint", status="failure", exit_code=1, outputs=None, allowed_to_fail=True)
    story.done("p2:test", "a2", deps=("p1:lint",))
    story.verdict()
    assert story.problems() == ()


def test_a_skipped_task_needs_nothing_before_it(story):
    story.graph(3)
    story.done("p1:build", status="failure", exit_code=1, outputs=None)
    story.not_run("p3:test", deps=("p1:build", "p2:build"))
    story.not_run("p2:build", "cancelled")
    story.verdict("failure")
    assert story.problems() == ()


def test_a_task_that_the_leader_gave_up_needs_nothing_before_it(story):
    story.graph(2)
    story.not_run("p2:test", "failure", deps=("p1:build",), problem="no agent that can run it has come")
    story.done("p1:build")
    story.verdict("failure")
    assert story.problems() == ()


def test_an_attempt_that_failed_and_was_tried_again_is_no_problem(story):
    story.graph(2)
    story.done("p1:build", status="failure", exit_code=1, outputs=None)
    story.done("p1:build", "a2", attempt=2)
    story.done("p2:test", deps=("p1:build",))
    story.verdict()
    assert story.problems() == ()


def test_a_task_that_was_run_again_for_lost_outputs_is_what_it_was_last(story):
    story.graph(2)
    story.done("p1:build")
    story.done("p1:build", "a2", status="failure", exit_code=1, outputs=None, attempt=2)
    # It was under way already.
    story.done("p2:test", deps=("p1:build",))
    story.verdict("failure")
    assert story.problems() == ()


@pytest.mark.parametrize("status", ["failure", "skipped", "cancelled"])
def test_success_over_a_task_that_ended_badly_is_refused(story, status):
    story.graph(1)
    story.done("p1:build", "main", status=status, exit_code=1, outputs=None)
    story.verdict()
    refused(story.files(), "entry 5: the verdict is success, and task p1:build has ended badly in entry 4")


@pytest.mark.parametrize("verdict", ["success", "failure"])
def test_a_verdict_over_tasks_that_have_not_ended_is_refused(story, verdict):
    story.graph(2)
    story.done("p1:build")
    story.verdict(verdict)
    refused(story.files(), f"the verdict is {verdict}, which needs all 2 tasks of the graphs to have ended, and 1 have")


def test_a_command_that_has_failed_is_no_success(story):
    story.verdict("success", exit_code=9)
    refused(story.files(), "the verdict is success, and the command has ended with exit code 9")


def test_that_a_task_has_failed_without_a_log_only_the_leader_says(story):
    story.graph(1)
    story.done("p1:build", status="failure", exit_code=1, outputs=None, log=None)
    story.verdict("failure", exit_code=1)
    refused(story.files(), "task p1:build, which nobody ran, must be signed by")


@pytest.mark.parametrize("verdict", ["error", "cancelled"])
def test_a_run_that_broke_off_may_leave_tasks_undone(story, verdict):
    story.graph(2)
    story.verdict(verdict)
    assert story.problems() == ()


def test_nothing_may_follow_the_verdict(story):
    story.verdict()
    story.graph(0)
    refused(story.files(), "entry 4: it stands behind the verdict")


@pytest.mark.parametrize("changes", [{"size": 2}, {"root": bytes(32)}])
def test_a_verdict_speaks_of_exactly_the_entries_before_it(story, changes):
    story.verdict(**changes)
    refused(story.files(), "entry 3: it speaks of")


def test_another_leader_needs_an_epoch_entry(story):
    story.take_over("a1")
    story.verdict()
    refused(story.files(), "entry 3: the verdict must be signed by", story.keys["main"].node_id, "epoch 1")
    refused(story.files(), "checkpoint: its first signature")


def test_an_epoch_entry_hands_the_run_over(story):
    story.graph(1)
    story.epoch("a1")
    story.done("p1:build", "a2")
    story.verdict()
    assert story.problems(story.authority.root_public) == ()


def test_the_old_leader_has_no_say_in_the_new_epoch(story):
    story.epoch("a1")
    story.verdict(by="main")
    refused(story.files(), "entry 4: the verdict must be signed by", story.keys["a1"].node_id, "epoch 2")


@pytest.mark.parametrize("number", [0, 1])
def test_epochs_grow(story, number):
    story.epoch("a1", number)
    story.verdict()
    refused(story.files(), f"entry 3: epoch {number} comes after epoch 1")


def test_only_a_member_takes_a_run_over(story):
    story.epoch("a3")
    story.verdict()
    refused(story.files(), "entry 3: ", "takes over the run and is not in the roster")


def test_an_award_of_an_older_epoch_counts_and_one_of_a_coming_epoch_does_not(story):
    story.graph(2)
    story.epoch("a1")
    story.done("p1:build", "a2", epoch=Epoch(1))
    story.done("p2:build", "a2", epoch=Epoch(3))
    story.verdict()
    (problem,) = story.problems()
    assert "entry 6: task p2:build was awarded in epoch 3, and the ledger has only come to epoch 2" in problem


# --- what a hostile ledger may do to its reader ----------------------------------------------------------


def test_what_a_ledger_says_cannot_write_to_the_terminal(story):
    story.graph(1)
    story.done("\x1b[2J\n:build", "a1", name="\x1b[31m")
    story.verdict()
    assert all(problem.isprintable() for problem in story.problems())
    assert story.problems()


def test_a_thousand_problems_are_told_in_a_hundred(story):
    for _ in range(120):
        story.ledger.append(b"")
    assert len(story.problems()) == 100


def test_dependencies_that_are_too_many_to_list_do_not_stop_a_ledger(story):
    story.graph(1)
    story.done("p1:build", deps=tuple(TaskId(f"p{number}:lint") for number in range(5_000)))
    story.verdict()
    assert story.problems() == ()


def test_a_vkey_of_the_ledger_is_a_note_verifier_key(finished):
    leader, witness = (VerifierKey.parse(line) for line in finished.files()["vkeys"].decode().splitlines())
    assert (leader.name, leader.kind) == ("dte/run/gh/4711-1", 1)
    assert (witness.name, witness.kind) == (f"dte/node/{finished.keys['a1'].node_id}", 4)
