"""Where the store is. An address travels in plans and shows in settings, so it never holds the password itself."""

import os
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from replicas.errors import SettingsError

DRIVERS = {"sqlite": "sqlite", "postgresql": "postgresql+psycopg", "postgres": "postgresql+psycopg"}


@dataclass(frozen=True, slots=True)
class StoreAddress:
    """`sqlite:////absolute/path` or `postgresql://user@host/database`, and the environment variable that holds the
    password, if it takes one."""

    url: str
    password_env: str | None = None

    @classmethod
    def of_file(cls, path: Path) -> "StoreAddress":
        """SQLite in the file at `path`."""
        return cls(f"sqlite:///{path.absolute()}")

    def checked(self) -> URL:
        """The address without a password. Raises SettingsError that says what is wrong with it."""
        try:
            url = make_url(self.url)
        except ArgumentError as error:
            raise SettingsError("store.url is no database URL; one looks like postgresql://user@host/name") from error
        driver = DRIVERS.get(url.drivername)
        if driver is None:
            raise SettingsError(f"store.url begins with {url.drivername!r}; known are sqlite and postgresql")
        if url.password is not None:
            raise SettingsError("store.url holds a password; put it in a variable, and its name in store.password_env")
        if driver == "sqlite" and not Path(url.database or "").is_absolute():
            raise SettingsError("store.url must name its file from the root: sqlite:////path/to/shoal.sqlite")
        return url.set(drivername=driver)

    def resolved(self) -> URL:
        """The address with its password. Raises SettingsError if the variable is not set."""
        url = self.checked()
        if self.password_env is None:
            return url
        password = os.environ.get(self.password_env)
        if not password:
            raise SettingsError(f"store.password_env names {self.password_env}, which is not set in the environment")
        return url.set(password=password)
