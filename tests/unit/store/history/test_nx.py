"""What is taken over from nx's own task history: real durations of this workspace, and no trouble."""

import hashlib
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

import pytest

from mesh.store.history.nx import seed_from_nx
from mesh.store.history.samples import DURATION_MS_MAX, Sample
from mesh.types import TaskId, UnixMs
from tests.nx_workspace import make_workspace

MACHINE = "linux-x86_64-8"

TABLES = """
    CREATE TABLE task_details (hash TEXT PRIMARY KEY NOT NULL, project TEXT NOT NULL, target TEXT NOT NULL, configuration TEXT);
    CREATE TABLE task_history (id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, hash TEXT NOT NULL, status TEXT NOT NULL,
        code INTEGER NOT NULL, start TIMESTAMP NOT NULL, end TIMESTAMP NOT NULL,
        FOREIGN KEY (hash) REFERENCES task_details (hash));
"""


def database(path: Path, *rows: tuple[object, ...]) -> Path:
    """As nx makes it. A row is project, target, configuration, status, start, end."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(path)) as made:
        made.executescript(TABLES)
        for number, (project, target, configuration, *run) in enumerate(rows):
            made.execute("INSERT INTO task_details VALUES (?, ?, ?, ?)", (str(number), project, target, configuration))
            made.execute(
                "INSERT INTO task_history (hash, status, code, start, end) VALUES (?, ?, 0, ?, ?)", (str(number), *run)
            )
        made.commit()
    return path


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop/nx.json").write_text("{}")
    return tmp_path / "shop"


def local(workspace: Path, *rows: tuple[object, ...], name: str = "0123-v6.db") -> Path:
    return database(workspace / ".nx/workspace-data" / name, *rows)


def seed(workspace: Path, **environ: str) -> tuple[list[Sample], str]:
    return seed_from_nx(workspace, MACHINE, environ)


def tasks(workspace: Path, **environ: str) -> list[str]:
    samples, notice = seed(workspace, **environ)
    assert notice == ""
    return sorted(sample.task for sample in samples)


def test_a_row_becomes_a_sample(workspace: Path) -> None:
    local(workspace, ("p1", "build", None, "success", 1_000, 4_500), ("p1", "build", "prod", "failure", 5_000, 5_100))
    assert seed(workspace) == (
        [
            Sample("shop", TaskId("p1:build:prod"), MACHINE, 100, UnixMs(5_100), "failure"),
            Sample("shop", TaskId("p1:build"), MACHINE, 3_500, UnixMs(4_500), "success"),
        ],
        "",
    )


@pytest.mark.parametrize("status", ["local-cache", "local-cache-kept-existing", "remote-cache", "skipped", "stopped"])
def test_what_did_not_run_to_its_end_says_nothing_of_a_duration(status: str, workspace: Path) -> None:
    local(workspace, ("p1", "build", None, status, 1_000, 1_002), ("p2", "build", None, "success", 1_000, 1_002))
    assert tasks(workspace) == ["p2:build"]


@pytest.mark.parametrize("span", [(5, 4), (0, DURATION_MS_MAX + 1), ("a", "b"), (None, 1), (1.5, 2.5)])
def test_a_row_that_makes_no_sense_is_passed_over(span: tuple[object, object], workspace: Path) -> None:
    path = local(workspace, ("p1", "build", None, "success", 0, 1), ("p2", "build", None, "success", 0, 1))
    with closing(sqlite3.connect(path)) as bent:
        bent.executescript(
            "CREATE TABLE loose (id, hash, status, code, start, end); INSERT INTO loose SELECT * FROM task_history;"
            "DROP TABLE task_history; ALTER TABLE loose RENAME TO task_history"
        )
        bent.execute("UPDATE task_history SET start = ?, end = ? WHERE hash = '0'", span)
        bent.commit()
    assert tasks(workspace) == ["p2:build"]


def test_no_history_is_no_news(workspace: Path, tmp_path: Path) -> None:
    assert seed(workspace) == ([], "")
    assert seed(tmp_path / "nowhere", HOME=str(tmp_path)) == ([], "")


def test_the_databases_of_all_versions_are_read(workspace: Path) -> None:
    for name in ("0123.db", "0123-v2.db", "0123-v6.db"):
        local(workspace, (name, "build", None, "success", 1, 2), name=name)
    assert tasks(workspace) == ["0123-v2.db:build", "0123-v6.db:build", "0123.db:build"]


@pytest.mark.parametrize("variable", ["NX_WORKSPACE_DATA_DIRECTORY", "NX_PROJECT_GRAPH_CACHE_DIRECTORY"])
def test_it_is_where_the_user_has_told_nx_to_keep_it(variable: str, workspace: Path, tmp_path: Path) -> None:
    local(workspace, ("wrong", "build", None, "success", 1, 2))
    database(workspace / "data/1.db", ("inside", "build", None, "success", 1, 2))
    database(tmp_path / "data/1.db", ("outside", "build", None, "success", 1, 2))
    assert tasks(workspace, **{variable: "data"}) == ["inside:build"]
    assert tasks(workspace, **{variable: str(tmp_path / "data")}) == ["outside:build"]


def shared(home: Path, identity: str) -> Path:
    return home / ".nx" / hashlib.sha256(identity.encode()).hexdigest()[:16] / "databases/1-v6.db"


@pytest.mark.parametrize("key", ["nxCloudId", "nxCloudAccessToken"])
def test_in_the_users_home_it_is_under_the_name_at_nx_cloud(key: str, workspace: Path, tmp_path: Path) -> None:
    (workspace / "nx.json").write_text(f'{{"{key}": "abc"}}')
    database(shared(tmp_path, "abc"), ("p1", "build", None, "success", 1, 2))
    assert tasks(workspace, HOME=str(tmp_path)) == ["p1:build"]


@pytest.mark.parametrize(
    "url",
    [
        "git@Git.acme.example:Acme/shop.git",
        "https://git.acme.example/acme/shop",
        "https://token@git.acme.example/acme/shop.git",
        "ssh://git@git.acme.example:2222/acme/shop.git",
    ],
)
@pytest.mark.parametrize("config", ["{}", "{ // nx takes comments\n}"])
def test_in_the_users_home_it_is_under_its_remote_and_place(
    url: str, config: str, workspace: Path, tmp_path: Path
) -> None:
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    subprocess.run(["git", "-C", tmp_path, "config", "remote.origin.url", url], check=True)
    (workspace / "nx.json").write_text(config)
    key = hashlib.sha256(b"git.acme.example/acme/shop#shop").hexdigest()
    database(shared(tmp_path, key), ("p1", "build", None, "success", 1, 2))
    assert tasks(workspace, HOME=str(tmp_path)) == ["p1:build"]


@pytest.mark.parametrize("content", [b"garbage" * 1_000, b"SQLite format 3\0" + bytes(200)])
def test_a_database_that_cannot_be_read_costs_nothing_but_a_notice(content: bytes, workspace: Path) -> None:
    local(workspace, ("p1", "build", None, "success", 1, 2), name="1.db")
    path = workspace / ".nx/workspace-data/2.db"
    path.write_bytes(content)
    samples, notice = seed(workspace)
    assert samples == []
    assert notice.startswith("nx's own task history could not be read (")
    assert path.read_bytes() == content


def test_other_tables_than_nxs_cost_nothing_but_a_notice(workspace: Path) -> None:
    path = workspace / ".nx/workspace-data/1.db"
    path.parent.mkdir(parents=True)
    with closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE task_history (id)")
    assert seed(workspace) == ([], seed(workspace)[1])
    assert "no such table: task_details" in seed(workspace)[1]


def test_nothing_is_left_beside_a_database_that_is_read(workspace: Path) -> None:
    path = local(workspace, ("p1", "build", None, "success", 1, 2))
    with closing(sqlite3.connect(path)) as nx:
        nx.execute("PRAGMA journal_mode = WAL")
    assert tasks(workspace) == ["p1:build"]
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_what_nx_is_just_writing_is_read_along(workspace: Path) -> None:
    path = local(workspace, ("p1", "build", None, "success", 1, 2))
    with closing(sqlite3.connect(path)) as nx:
        nx.executescript("PRAGMA journal_mode = WAL; INSERT INTO task_details VALUES ('9', 'p9', 'build', NULL)")
        nx.execute("INSERT INTO task_history (hash, status, code, start, end) VALUES ('9', 'success', 0, 1, 2)")
        nx.commit()
        assert tasks(workspace) == ["p1:build", "p9:build"]


@pytest.mark.nx
def test_what_real_nx_has_run_is_found_and_what_it_took_from_its_cache_is_not(tmp_path: Path) -> None:
    real = make_workspace(tmp_path / "shop", projects=2, targets=("build", "test"))
    for _ in range(2):
        done = real.nx("run-many", "-t", "build", "test")
        assert done.returncode == 0, done.stdout + done.stderr
    samples, notice = seed(real.path, HOME=str(real.home))
    assert notice == ""
    assert sorted(sample.task for sample in samples) == ["p0:build", "p0:test", "p1:build", "p1:test"]
    assert all(sample.status == "success" and sample.duration_ms >= 20 for sample in samples)
