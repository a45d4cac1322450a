"""Who is here, and who is taken for gone: the rules of membership.py on the machine itself."""

import pytest

from mesh.protocol.membership import BEAT_MS, LINK_GRACE_MS, SILENCE_MAX_MS, STOOD_STILL_MS, Change, Membership
from mesh.types import Instant, NodeId
from mesh.wire.messages import ADDRESSES_MAX, Hello, Member, Members

ME, ONE, TWO = NodeId("me"), NodeId("one"), NodeId("two")


def hello(name="one", role="agent", incarnation=1, addresses=()):
    return Hello("run/1", name, role, 1, incarnation, addresses)


def member(node, standing="alive", incarnation=1, addresses=("10.0.0.9:1",)):
    return Member(node, str(node), "agent", incarnation, standing, addresses)


def met(*nodes):
    """A membership to which `nodes` have said hello at 0."""
    membership = Membership(ME)
    for node in nodes:
        membership.said_hello(node, hello(str(node)), "10.0.0.1", b"certificate", Instant(0))
    return membership


def overdue(membership, at):
    return [
        (change.node, change.standing) for change in [*membership.cut_off(Instant(at)), *membership.silent(Instant(at))]
    ]


def test_a_hello_makes_alive_and_only_the_first_one_is_a_change():
    membership = Membership(ME)
    assert membership.said_hello(ONE, hello(), "h", b"", Instant(0)) == Change(ONE, "alive")
    assert membership.said_hello(ONE, hello(), "h", b"", Instant(1)) is None


def test_a_peer_that_is_known_by_rumour_only_becomes_alive_by_its_hello():
    membership = Membership(ME)
    membership.rumour(Members((member(ONE),)))
    assert not membership.introduced(ONE)
    assert membership.said_hello(ONE, hello(), "h", b"", Instant(0)) == Change(ONE, "alive")
    assert membership.introduced(ONE)


def test_a_broken_link_is_death_only_after_the_grace():
    membership = met(ONE)
    membership.link_down(ONE, Instant(100))
    assert overdue(membership, 100 + LINK_GRACE_MS - 1) == []
    assert overdue(membership, 100 + LINK_GRACE_MS) == [(ONE, "dead")]
    assert overdue(membership, 100 + 2 * LINK_GRACE_MS) == [], "once"


def test_a_peer_that_is_back_within_the_grace_is_not_dead():
    membership = met(ONE)
    membership.link_down(ONE, Instant(100))
    assert membership.said_hello(ONE, hello(), "h", b"", Instant(200)) is None
    assert overdue(membership, 100 + LINK_GRACE_MS) == []


def test_the_grace_is_counted_from_the_first_end_of_the_link():
    membership = met(ONE)
    membership.link_down(ONE, Instant(0))
    membership.link_down(ONE, Instant(2_000))
    assert overdue(membership, LINK_GRACE_MS) == [(ONE, "dead")]


def test_an_open_link_that_says_nothing_is_believed_for_long_and_not_for_ever():
    membership = met(ONE)
    assert overdue(membership, SILENCE_MAX_MS - 1) == []
    assert overdue(membership, SILENCE_MAX_MS) == [(ONE, "dead")]


def test_any_message_shows_life():
    membership = met(ONE)
    membership.heard(ONE, Instant(SILENCE_MAX_MS - 1))
    assert overdue(membership, SILENCE_MAX_MS) == []
    membership.heard(TWO, Instant(5))  # of a stranger: nothing


def test_time_in_which_this_node_stood_still_is_held_against_nobody():
    membership = met(ONE, TWO)
    membership.link_down(TWO, Instant(100))
    slept_ms = 10 * SILENCE_MAX_MS
    membership.stood_still(slept_ms, Instant(200 + slept_ms))
    assert overdue(membership, slept_ms + 100 + LINK_GRACE_MS - 1) == []
    assert overdue(membership, slept_ms + 100 + LINK_GRACE_MS) == [(TWO, "dead")]
    assert overdue(membership, slept_ms + SILENCE_MAX_MS - 1) == []
    assert overdue(membership, slept_ms + SILENCE_MAX_MS) == [(ONE, "dead")]


def test_who_spoke_after_a_standstill_has_spoken_now_and_not_later():
    membership = met(ONE)
    membership.heard(ONE, Instant(50_000))
    membership.stood_still(50_000, Instant(50_000))
    assert overdue(membership, 50_000 + SILENCE_MAX_MS) == [(ONE, "dead")]


def test_a_tick_that_is_a_little_late_changes_nothing():
    membership = met(ONE)
    membership.stood_still(STOOD_STILL_MS - 1, Instant(5_000))
    assert overdue(membership, SILENCE_MAX_MS) == [(ONE, "dead")]


def test_a_goodbye_is_no_loss_and_the_end_of_its_link_changes_nothing():
    membership = met(ONE)
    assert membership.said_goodbye(ONE, "SIGTERM") == Change(ONE, "left", "SIGTERM")
    membership.link_down(ONE, Instant(1))
    assert overdue(membership, 10 * SILENCE_MAX_MS) == []
    assert membership.said_goodbye(ONE, "again") is None
    assert membership.said_goodbye(TWO, "unknown") is None


@pytest.mark.parametrize("end", ["dead", "left"])
def test_who_was_dead_or_has_left_is_alive_again_by_a_hello(end):
    membership = met(ONE)
    if end == "left":
        membership.said_goodbye(ONE, "")
    else:
        assert overdue(membership, SILENCE_MAX_MS) == [(ONE, "dead")]
    assert membership.said_hello(ONE, hello(), "h", b"", Instant(99_999)) == Change(ONE, "alive")


def test_the_reason_of_a_death_says_since_when():
    membership = met(ONE, TWO)
    membership.link_down(ONE, Instant(0))
    (gone,) = membership.cut_off(Instant(LINK_GRACE_MS))
    assert "2.5 s" in gone.reason
    (silent,) = membership.silent(Instant(SILENCE_MAX_MS))
    assert "40 s" in silent.reason


# --- rumours ---------------------------------------------------------------------------------------


def test_what_is_new_is_passed_on_and_what_is_known_is_not():
    membership = Membership(ME)
    assert membership.rumour(Members((member(ONE), member(TWO)))) == [member(ONE), member(TWO)]
    assert membership.rumour(Members((member(ONE),))) == []


def test_the_higher_incarnation_is_the_newer_truth_and_of_equal_ones_an_end_is():
    membership = Membership(ME)
    membership.rumour(Members((member(ONE, incarnation=2),)))
    assert membership.rumour(Members((member(ONE, "dead", incarnation=1),))) == []
    assert membership.rumour(Members((member(ONE, "dead", incarnation=2),))) != []
    assert membership.rumour(Members((member(ONE, "alive", incarnation=2),))) == []
    assert membership.rumour(Members((member(ONE, "alive", incarnation=3),))) != []


def test_a_rumour_about_oneself_or_about_who_has_spoken_for_itself_is_nothing():
    membership = met(ONE)
    assert membership.rumour(Members((member(ME, "dead", 9), member(ONE, "dead", 9)))) == []
    assert membership.peers[ONE].member.standing == "alive"


def test_who_is_known_by_rumour_only_is_never_taken_for_dead():
    membership = Membership(ME)
    membership.rumour(Members((member(ONE),)))
    assert overdue(membership, 10 * SILENCE_MAX_MS) == []
    assert membership.deadline() is None


def test_a_newcomer_is_told_of_those_who_are_alive():
    membership = met(ONE, TWO)
    membership.said_goodbye(ONE, "")
    assert [one.node for said in membership.known() for one in said.members] == [TWO]


# --- addresses -------------------------------------------------------------------------------------


def test_the_host_a_peer_is_seen_from_comes_before_what_it_thinks_of_itself():
    membership = Membership(ME)
    membership.said_hello(ONE, hello(addresses=("192.168.0.5:7946", "[fe80::1]:7946")), "1.2.3.4", b"", Instant(0))
    assert membership.addresses(ONE) == ("1.2.3.4:7946", "192.168.0.5:7946", "[fe80::1]:7946")
    assert membership.addresses(TWO) == ()


def test_a_host_with_colons_is_put_into_brackets():
    membership = Membership(ME)
    membership.said_hello(ONE, hello(addresses=("10.0.0.1:7",)), "2001:db8::1", b"", Instant(0))
    assert membership.addresses(ONE)[0] == "[2001:db8::1]:7"


# --- when to look again ----------------------------------------------------------------------------


def test_links_are_in_the_order_in_which_their_peers_came():
    membership = met(TWO, ONE)
    membership.link_down(TWO, Instant(1))
    assert membership.linked() == [ONE]
    membership.said_hello(TWO, hello(), "h", b"", Instant(2))
    assert membership.linked() == [TWO, ONE]


def test_the_deadline_is_the_next_beat_or_the_end_of_a_grace_whichever_comes_first():
    membership = met(ONE, TWO)
    membership.next_beat = Instant(10_000)
    assert membership.deadline() == 10_000
    membership.link_down(ONE, Instant(100))
    assert membership.deadline() == 100 + LINK_GRACE_MS
    membership.link_down(TWO, Instant(50))
    assert membership.deadline() == 50 + LINK_GRACE_MS
    membership.next_beat = Instant(1_000)
    assert membership.deadline() == 1_000, "a beat, though there is no link"


def test_a_goodbye_over_a_broken_link_leaves_nothing_to_wait_for():
    membership = met(ONE)
    membership.link_down(ONE, Instant(100))
    membership.said_goodbye(ONE, "")
    assert membership.deadline() is None


def test_alone_there_is_nothing_to_wait_for():
    assert Membership(ME).deadline() is None


def test_a_beat_is_due_far_more_often_than_silence_is_death():
    assert SILENCE_MAX_MS >= 20 * BEAT_MS


def test_of_where_a_node_is_no_more_is_kept_than_may_be_told():
    membership = Membership(ME)
    many = tuple(f"10.0.0.{number}:{number + 1}" for number in range(ADDRESSES_MAX))
    membership.said_hello(ONE, hello(addresses=many), "192.0.2.1", b"", Instant(0))
    kept = membership.peers[ONE].member.addresses
    assert len(kept) == ADDRESSES_MAX
    assert kept[0] == "192.0.2.1:1"
