"""How far ahead rows are read: so far as is done with those before them."""

import queue
import threading

import pyarrow as pa
import pytest

from avr.pipeline.tables import write_rows

pytestmark = pytest.mark.integration
GROUP = 1024  # rows that `write_rows` puts into one group
NUMBERS = pa.schema([("number", pa.int64())])


class Others:
    """Holds CPUs."""

    def there(self):
        return True


@pytest.fixture
def reading(ray_cluster, tmp_path):
    """Rows as they are read, two groups ahead, and the witness that is told of commits.

    One CPU is free, and the other operator of the dataset needs it.
    """
    from avr.pipeline.source import paced_rows
    from avr.pipeline.witness import witness_beside_driver

    file = tmp_path / "rows.parquet"
    write_rows(file, ({"number": n} for n in range(4 * GROUP)), NUMBERS)
    witness = witness_beside_driver()
    others = ray_cluster.remote(num_cpus=7)(Others).remote()
    ray_cluster.get(others.there.remote())
    paced = paced_rows(file, 2 * GROUP, witness)
    dataset = paced.repartition(target_num_rows_per_block=64)
    read = queue.Queue()

    def follow():
        for row in dataset.iter_rows():
            read.put(row["number"])

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    yield read, witness
    thread.join(60)
    ray_cluster.kill(others)
    assert not thread.is_alive()


def take(read, number):
    return [read.get(timeout=60) for _ in range(number)]


def take_what_comes(read):
    rows = []
    while True:
        try:
            rows.append(read.get(timeout=4))
        except queue.Empty:
            return rows


def test_reads_only_so_far_ahead_of_what_is_committed(reading):
    from avr.pipeline.source import COMMITTED

    read, witness = reading
    rows = take(read, 2 * GROUP)
    rows += take_what_comes(read)
    # The third group begins two groups after the first. An iterator keeps a batch back.
    assert 2 * GROUP < len(rows) <= 3 * GROUP
    witness.advanced.remote(COMMITTED, GROUP - 1)
    rows += take_what_comes(read)
    assert len(rows) <= 3 * GROUP
    witness.advanced.remote(COMMITTED, 1)
    rows += take(read, 4 * GROUP - len(rows))
    assert sorted(rows) == list(range(4 * GROUP))


def test_a_witness_that_is_gone_holds_nothing_up(ray_cluster, reading):
    read, witness = reading
    ray_cluster.kill(witness)
    assert sorted(take(read, 4 * GROUP)) == list(range(4 * GROUP))
