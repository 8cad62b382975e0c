"""The blob store, example by example."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from raftmail.storage.blobs import (
    BlobDamaged,
    BlobLimits,
    BlobMissing,
    BlobsDamaged,
    BlobStore,
    BlobTooLarge,
)
from raftmail.storage.disk import DiskFull, SyncFailed
from tests.simulation.disk import SimDisk
from tests.storage.blob_twin import SMALL, Places, digest_of, sync
from tests.storage.segments import check_segments, stored_digests

TEXT = b"Dear all, the same words again and again. " * 30


def begin(disk: SimDisk, places: Places, limits: BlobLimits = SMALL) -> BlobStore:
    return BlobStore.open(disk, "blobs", places, limits)


def settle(store: BlobStore, places: Places) -> None:
    sync(store)
    store.place_pending()
    places.commit_durable()


def put(store: BlobStore, body: bytes) -> bytes:
    assert store.append(digest_of(body), body)
    return digest_of(body)


def segments(disk: SimDisk) -> list[str]:
    return [f"blobs/{name}" for name in disk.listdir("blobs")]


def bodies(count: int, size: int, seed: int = 0) -> list[bytes]:
    source = random.Random(seed)
    return [source.randbytes(size) for _ in range(count)]


def reclaim_all(store: BlobStore, live: set[bytes]) -> int:
    freed = 0
    for _ in range(200):
        progress = store.reclaim(lambda d: int(d in live), 10_000)
        freed += progress.freed_bytes
        if progress.waits_for_sync:
            sync(store)
        if not progress.more:
            break
    return freed


@pytest.mark.parametrize("body", [b"", b"x", TEXT, bytes(5000), bodies(1, 5000)[0]])
def test_a_body_comes_back_as_it_was(body: bytes) -> None:
    disk, places = SimDisk(), Places()
    store = begin(disk, places)
    digest = put(store, body)
    assert store.get(digest) == body  # from the buffer
    sync(store)
    assert store.get(digest) == body  # from the file
    settle(store, places)
    store.close()
    assert begin(disk, places).get(digest) == body


def test_a_body_is_stored_once() -> None:
    store = begin(SimDisk(), Places())
    digest = put(store, TEXT)
    size = store.total_bytes
    assert not store.append(digest, TEXT)
    assert store.total_bytes == size


def test_a_body_that_is_not_there_is_told_from_one_that_is() -> None:
    store = begin(SimDisk(), Places())
    assert not store.has(bytes(32)) and not store.durable(bytes(32))
    with pytest.raises(BlobMissing, match="0000"):
        store.get(bytes(32))


def test_only_a_finished_sync_makes_a_body_durable() -> None:
    store = begin(SimDisk(), Places())
    assert not store.dirty() and store.begin_sync() is None
    one = put(store, b"one")
    assert store.dirty() and not store.durable(one)
    job = store.begin_sync()
    assert job is not None
    two = put(store, b"two")
    assert store.begin_sync() is None
    with pytest.raises(RuntimeError):
        store.end_sync(job)
    job.run()
    assert not store.durable(one)
    store.end_sync(job)
    assert store.durable(one) and not store.durable(two)
    sync(store)
    assert store.durable(two)


def test_a_failed_sync_makes_nothing_durable() -> None:
    disk = SimDisk()
    store = begin(disk, Places())
    digest = put(store, b"one")
    job = store.begin_sync()
    assert job is not None
    disk.fail_sync_at = disk.syncs + 1
    with pytest.raises(SyncFailed):
        job.run()
    with pytest.raises(RuntimeError):
        store.end_sync(job)
    assert not store.durable(digest)


def test_places_are_entered_only_for_durable_bodies() -> None:
    places = Places()
    store = begin(SimDisk(), places)
    one = put(store, b"one")
    store.place_pending()
    assert not places.rows()
    sync(store)
    put(store, b"two")
    store.place_pending()
    assert [row[0] for row in places.rows()] == [one]
    assert store.pending == 1


def test_an_aborted_transaction_loses_no_place() -> None:
    disk, places = SimDisk(), Places()
    store = begin(disk, places)
    digests = [put(store, body) for body in bodies(9, 900)]
    sync(store)
    store.place_pending()
    places.abort()
    store.place_pending()
    places.commit_durable()
    assert all(places.get_place(digest) for digest in digests)
    store.close()
    assert all(begin(disk, places).has(digest) for digest in digests)


def test_a_segment_is_given_back_only_with_a_checkpoint_behind_it() -> None:
    """The commit that entered the later segments failed: what is entered again has the checkpoint,
    too."""
    disk, places = SimDisk(), Places()
    store = begin(disk, places)
    put(store, random.Random(1).randbytes(SMALL.segment_bytes_max - 500))
    settle(store, places)
    live = {put(store, body) for body in bodies(9, 900)}
    sync(store)
    store.place_pending()
    places.abort()
    reclaim_all(store, live)
    store.place_pending()
    places.commit_durable()
    assert "blobs/0000000000000001.seg" not in segments(disk)
    store.abandon()
    reopened = begin(disk, places)
    assert reopened.pending == 0
    assert all(map(reopened.has, live))


def test_opening_reads_only_what_came_after_the_checkpoint() -> None:
    disk, places = SimDisk(), Places()
    store = begin(disk, places, BlobLimits())
    old = [put(store, body) for body in bodies(20, 500)]
    settle(store, places)
    new = put(store, b"new")
    store.close()
    store = begin(disk, places, BlobLimits())
    assert store.pending == 1
    assert store.get(new) == b"new" and all(map(store.has, old))


def test_without_an_index_everything_is_found_again() -> None:
    disk, places = SimDisk(), Places()
    store = begin(disk, places)
    digests = {put(store, body) for body in bodies(10, 700)}
    settle(store, places)
    store.close()
    store = begin(disk, Places())
    assert all(map(store.has, digests))
    assert set(stored_digests(disk, "blobs")) == digests


def test_a_full_disk_refuses_a_body_and_keeps_the_others() -> None:
    disk, places = SimDisk(), Places()
    store = begin(disk, places)
    kept = put(store, b"kept")
    sync(store)
    disk.capacity_bytes = 700
    big = bodies(1, 3000)[0]
    with pytest.raises(DiskFull):
        store.append(digest_of(big), big)
    assert not store.has(digest_of(big)) and store.get(kept) == b"kept"
    disk.capacity_bytes = 1 << 30
    assert store.append(digest_of(big), big)
    settle(store, places)
    store.close()
    assert begin(disk, places).get(digest_of(big)) == big


def test_a_body_beyond_the_limit_is_refused() -> None:
    store = begin(SimDisk(), Places())
    with pytest.raises(BlobTooLarge, match="6001 bytes; the limit is 6000"):
        store.append(bytes(32), bytes(6001))


def test_a_body_larger_than_a_segment_gets_its_own() -> None:
    disk, places = SimDisk(), Places()
    store = begin(disk, places)
    small, big, after = bodies(1, 100)[0], bodies(1, 5000)[0], b"after"
    for body in (small, big, after):
        put(store, body)
    settle(store, places)
    assert len(segments(disk)) == 3
    assert all(store.get(digest_of(body)) == body for body in (small, big, after))


def test_what_compresses_well_is_stored_compressed_and_what_does_not_is_not() -> None:
    limits = replace(SMALL, segment_bytes_max=1 << 20, body_bytes_max=1 << 20)
    store = begin(SimDisk(), Places(), limits)
    put(store, bodies(1, 5000)[0])
    after_random = store.total_bytes
    assert after_random > 5000
    put(store, TEXT)
    assert store.total_bytes - after_random < len(TEXT) // 2
    before = store.total_bytes
    put(store, b"short" * 60)  # below compress_bytes_min
    assert store.total_bytes - before > 300


@pytest.mark.parametrize("body", [bodies(1, 300)[0], TEXT])
def test_no_flipped_bit_is_ever_read_as_a_body(body: bytes) -> None:
    disk, places = SimDisk(), Places()
    store = begin(disk, places)
    put(store, b"before")
    digest = put(store, body)
    put(store, b"after")
    settle(store, places)
    store.close()
    name = segments(disk)[0]
    data = disk.content(name)
    damaged = 0
    for bit in range(len(data) * 8):
        if bit % 3 and bit > 1600:
            continue
        disk.put(name, data)
        disk.flip_bit(name, bit)
        store = begin(disk, places)
        for good, wanted in ((digest, body), (digest_of(b"after"), b"after")):
            try:
                assert store.get(good) == wanted
            except BlobDamaged:
                damaged += 1
        store.abandon()
    assert damaged > 500


def damage(disk: SimDisk, body: bytes) -> None:
    """Flip a bit in the stored bytes of an uncompressed body."""
    for name in segments(disk):
        at = disk.content(name).find(body)
        if at >= 0:
            disk.flip_bit(name, at * 8)
            return
    raise AssertionError("the body is nowhere")


def test_a_damaged_body_is_told_of_and_can_be_replaced() -> None:
    disk, places = SimDisk(), Places()
    store = begin(disk, places)
    bad, good = bodies(2, 300)
    put(store, bad)
    put(store, good)
    settle(store, places)
    damage(disk, bad)
    for _ in range(2):
        with pytest.raises(BlobDamaged, match=r"0001\.seg, offset 32.*fetched again"):
            store.get(digest_of(bad))
    assert store.damaged() == [digest_of(bad)]
    assert not store.has(digest_of(bad)) and store.get(digest_of(good)) == good
    with pytest.raises(ValueError, match="not the body"):
        store.replace(digest_of(bad), good)
    store.replace(digest_of(bad), bad)
    assert store.get(digest_of(bad)) == bad and not store.damaged()
    settle(store, places)
    store.close()
    assert begin(disk, places).get(digest_of(bad)) == bad


def test_rot_behind_the_checkpoint_costs_one_body_and_not_those_that_follow() -> None:
    disk, places = SimDisk(), Places()
    store = begin(disk, places)
    three = bodies(3, 200)
    for body in three:
        put(store, body)
    sync(store)
    store.abandon()
    damage(disk, three[1])
    store = begin(disk, places)
    assert [store.has(digest_of(body)) for body in three] == [True, False, True]
    assert store.append(digest_of(three[1]), three[1])
    settle(store, places)
    store.close()
    assert not check_segments(disk, "blobs", places.rows(), places.get_local, deep=True)


def test_a_missing_segment_is_refused_unless_that_is_wanted() -> None:
    disk, places = SimDisk(), Places()
    store = begin(disk, places)
    digests = [put(store, body) for body in bodies(9, 900)]
    settle(store, places)
    store.close()
    gone = segments(disk)[1]
    disk.remove(gone)
    with pytest.raises(BlobsDamaged, match=r"0002\.seg.*missing.*Put the file back"):
        begin(disk, places)
    store = BlobStore.open(disk, "blobs", places, SMALL, without_missing=True)
    missing = [digest for digest in digests if not store.has(digest)]
    assert 0 < len(missing) < len(digests)
    store.place_pending()
    places.commit_durable()
    store.close()
    begin(disk, places)


@pytest.mark.parametrize("at", [1, -1])
def test_a_segment_cut_short_is_refused_unless_that_is_wanted(at: int) -> None:
    disk, places = SimDisk(), Places()
    store = begin(disk, places)
    digests = [put(store, body) for body in bodies(8, 900)]
    settle(store, places)
    store.close()
    name = segments(disk)[at]
    disk.put(name, disk.content(name)[:800])
    with pytest.raises(BlobsDamaged, match="800"):
        begin(disk, places)
    store = BlobStore.open(disk, "blobs", places, SMALL, without_missing=True)
    put(store, b"life goes on")
    readable = 0
    for digest in digests:
        try:
            store.get(digest)
            readable += 1
        except (BlobDamaged, BlobMissing):
            pass
    assert 0 < readable < len(digests)


def test_the_newest_segment_missing_is_refused_unless_that_is_wanted() -> None:
    disk, places = SimDisk(), Places()
    store = begin(disk, places)
    put(store, b"one")
    settle(store, places)
    store.close()
    disk.remove(segments(disk)[0])
    with pytest.raises(BlobsDamaged, match="missing"):
        begin(disk, places)
    store = BlobStore.open(disk, "blobs", places, SMALL, without_missing=True)
    assert not store.has(digest_of(b"one"))
    put(store, b"two")
    settle(store, places)
    store.close()
    assert begin(disk, places).get(digest_of(b"two")) == b"two"


def test_reclaim_gives_back_what_is_dead_and_keeps_what_is_not() -> None:
    disk, places = SimDisk(), Places()
    store = begin(disk, places)
    all_bodies = bodies(20, 500)
    for body in all_bodies:
        put(store, body)
    settle(store, places)
    live = {digest_of(body) for body in all_bodies[::4]}
    before = store.total_bytes
    for body in all_bodies:
        if digest_of(body) not in live:
            store.note_dead(digest_of(body))
    assert store.dead_bytes > before // 2
    assert reclaim_all(store, live) > before // 2
    assert store.total_bytes < before * 2 // 3
    for body in all_bodies[::4]:
        assert store.get(digest_of(body)) == body
    assert not all(store.has(digest_of(body)) for body in all_bodies)
    for body in all_bodies:
        if not store.has(digest_of(body)):
            assert store.append(digest_of(body), body)
            assert store.get(digest_of(body)) == body
    store.close()


def test_a_segment_stays_until_the_checkpoint_has_left_it() -> None:
    """Else the store would miss it when it is opened."""
    disk, places = SimDisk(), Places()
    store = begin(disk, places)
    dead = [put(store, body) for body in bodies(2, 500)]
    settle(store, places)
    while len(segments(disk)) < 2:
        dead.append(put(store, bodies(1, 500, len(dead))[0]))
    for digest in dead:
        store.note_dead(digest)
    while not store.reclaim(lambda d: 0, 10_000).waits_for_sync:
        assert len(segments(disk)) == 2
    disk.power_off()
    disk.restart()
    begin(disk, places).close()


def test_reclaim_finds_out_by_counting_when_nobody_told_it() -> None:
    disk, places = SimDisk(), Places()
    store = begin(disk, places)
    for body in bodies(20, 500):
        put(store, body)
    settle(store, places)
    store.close()
    store = begin(disk, places)
    assert store.dead_bytes == 0
    assert reclaim_all(store, set()) > 5000


def test_a_segment_with_a_needed_body_whose_header_is_bad_stays_until_there_is_a_good_copy() -> (
    None
):
    """The walk over the segment does not come by such a body: the place table knows of it."""
    disk, places = SimDisk(), Places()
    store = begin(disk, places)
    texts = bodies(20, 500)
    for body in texts:
        put(store, body)
    settle(store, places)
    needed = digest_of(texts[1])
    place = store.place_of(needed)
    assert place is not None
    name = segments(disk)[0]
    disk.flip_bit(name, 8 * place.offset)
    damaged: list[bytes] = []
    for _ in range(200):
        progress = store.reclaim(lambda d: int(d == needed), 10_000)
        damaged += progress.damaged
        if progress.waits_for_sync:
            sync(store)
    assert set(damaged) == {needed}
    assert name in segments(disk) and not store.has(needed)
    store.replace(needed, texts[1])
    settle(store, places)
    reclaim_all(store, {needed})
    reclaim_all(store, {needed})
    assert name not in segments(disk) and store.get(needed) == texts[1]


def test_a_pinned_body_is_never_reclaimed() -> None:
    disk, places = SimDisk(), Places()
    store = begin(disk, places)
    all_bodies = bodies(12, 500)
    for body in all_bodies:
        put(store, body)
    settle(store, places)
    digest = digest_of(all_bodies[0])
    store.pin([digest, digest], 7)
    store.pin([digest], 8)
    store.unpin(7)
    store.unpin(99)
    reclaim_all(store, set())
    assert store.get(digest) == all_bodies[0]
    store.unpin(8)
    while store.has(digest):
        put(store, random.Random(store.total_bytes).randbytes(2400))
        settle(store, places)
        reclaim_all(store, set())


def test_a_body_that_becomes_needed_while_its_segment_is_emptied_stays() -> None:
    disk, places = SimDisk(), Places()
    store = begin(disk, places)
    all_bodies = bodies(12, 500)
    for body in all_bodies:
        put(store, body)
    settle(store, places)
    live = {digest_of(all_bodies[1])}
    for body in all_bodies[2:]:
        store.note_dead(digest_of(body))
    progress = store.reclaim(lambda d: int(d in live), 600)
    for _ in range(20):
        if progress.waits_for_sync:
            break
        progress = store.reclaim(lambda d: int(d in live), 600)
    revived = digest_of(all_bodies[0])
    assert store.has(revived) and not store.append(revived, all_bodies[0])
    store.pin([revived], 1)
    reclaim_all(store, live)
    assert store.get(revived) == all_bodies[0]
    assert store.get(digest_of(all_bodies[1])) == all_bodies[1]


def test_a_damaged_body_that_is_needed_keeps_its_segment_until_it_was_replaced() -> None:
    disk, places = SimDisk(), Places()
    store = begin(disk, places)
    all_bodies = bodies(8, 500)
    for body in all_bodies:
        put(store, body)
    settle(store, places)
    live = {digest_of(all_bodies[0])}
    damage(disk, all_bodies[0])
    reclaim_all(store, live)
    first = segments(disk)[0]
    assert first.endswith("0001.seg") and store.damaged() == list(live)
    store.replace(digest_of(all_bodies[0]), all_bodies[0])
    settle(store, places)
    reclaim_all(store, live)
    assert first not in segments(disk)
    assert store.get(digest_of(all_bodies[0])) == all_bodies[0]


def test_fsck_tells_in_words_what_is_wrong_and_where() -> None:
    disk, places = SimDisk(), Places()
    store = begin(disk, places)
    all_bodies = bodies(16, 500)
    for body in all_bodies:
        put(store, body)
    settle(store, places)
    store.close()

    def told(deep: bool = False) -> str:
        problems = check_segments(disk, "blobs", places.rows(), places.get_local, deep=deep)
        return "\n".join(map(str, problems))

    names = segments(disk)
    whole = {name: disk.content(name) for name in names}
    assert told(deep=True) == ""
    damage(disk, all_bodies[0])
    assert told() == ""
    assert "was changed" in told(deep=True) and names[0] in told(deep=True)
    disk.put(names[0], whole[names[0]])
    disk.flip_bit(names[0], (32 + 20) * 8)
    assert "are not records any more" in told()
    assert "the index has the body" in told()
    disk.put(names[0], b"?" + whole[names[0]][1:])
    assert "header of the file was changed" in told()
    disk.put(names[0], whole[names[0]][:700])
    assert "bytes, 700 are left" in told()
    disk.put(names[0], whole[names[0]])
    disk.remove(names[1])
    assert "the file is missing" in told() and "the index has the body" in told()
    disk.put(names[1], whole[names[1]])
    disk.put("blobs/0000000000000000.seg", whole[names[1]])
    assert "knows nothing of this file" in told()
    disk.remove("blobs/0000000000000000.seg")
    places.put_places([(bytes(32), b"short")])
    assert "a place has 16 bytes" in told()


def test_free_space_is_asked_for_once_a_second() -> None:
    disk = SimDisk(capacity_bytes=1000)
    store = begin(disk, Places(), replace(SMALL, free_bytes_min=500))
    assert not store.nearly_full(10.0)
    disk.capacity_bytes = 100
    assert not store.nearly_full(10.9)
    assert store.nearly_full(11.0)
    disk.capacity_bytes = 1000
    assert not store.nearly_full(12.5)
