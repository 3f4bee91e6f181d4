"""What several tests look for in the runs that they share."""

from avr.data.tables import read_rows, read_trees


def assert_rows_say_what_their_trees_say(run_dir):
    """RSFT rows of a Stage I run, against the trees of its first growth."""
    trees = {tree.id: tree for tree in read_trees(run_dir / "grow_rsft" / "trees")}
    rows = list(read_rows(run_dir / "select" / "rows.parquet"))
    assert rows
    for row in rows:
        tree = trees[row["node_ids"][0]]
        critique, refinement = tree.best_refined()
        said = [message["content"] for message in row["messages"]]
        assert [said[1], said[3], said[5]] == [tree.first.text, critique.text, refinement.text]
        assert row["gain"] == tree.gain > 0
