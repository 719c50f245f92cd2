"""Where MLflow keeps artifacts, in a project that was moved or copied."""

import sqlite3
from contextlib import closing
from pathlib import Path

from mlflow.utils.file_utils import local_file_uri_to_path
from mlflow.utils.uri import is_local_uri

#: Columns of MLflow's database that hold addresses of artifacts.
ADDRESSES = {
    "experiments": ("artifact_location",),
    "runs": ("artifact_uri",),
    "logged_models": ("artifact_location",),
    "model_versions": ("source", "storage_location"),
}


def follow(database: Path, found: str, wanted: str) -> bool:
    """Let the addresses in a database follow its project; whether they had to.

    MLflow keeps them whole, so artifacts of a project that was moved or copied would be written to
    the old place or to another copy, unseen. All or none are changed.

    Args:
        database: of SQLite, moved with the project.
        found: the folder of the artifacts by the database, a path or an address.
        wanted: where it is now.
    """
    if not (is_local_uri(found) and is_local_uri(wanted)):
        return False
    old, new = (Path(local_file_uri_to_path(uri)).absolute().parent for uri in (found, wanted))
    if old == new:
        return False
    with closing(sqlite3.connect(database)) as connection, connection:
        for table, columns in ADDRESSES.items():
            known = {row[1] for row in connection.execute(f"PRAGMA table_info({table})")}
            for column in known & set(columns):
                for before, after in ((old.as_uri(), new.as_uri()), (str(old), str(new))):
                    connection.execute(
                        f"UPDATE {table} SET {column} = ? || substr({column}, ?)"
                        f" WHERE substr({column}, 1, ?) = ?",
                        (f"{after}/", len(before) + 2, len(before) + 1, f"{before}/"),
                    )
    return True
