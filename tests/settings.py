"""Django settings of the test suite and of the server processes that tests start.

Read from the environment, so that one module serves both:

``TEST_DATABASE``
    ``sqlite`` (default) or ``postgres``. Both have a second database, ``other``.
``TEST_DATABASE_DEFAULT`` and ``TEST_DATABASE_OTHER``
    A DSN-less name (a file or a PostgreSQL database) that a server process opens instead of its
    own; set by ``tests.support`` to the test databases of the run that starts it.
``TEST_DATABASE_HOST`` and ``TEST_DATABASE_PORT``
    Where PostgreSQL listens; set by ``tests.support``.
``TEST_CHANNEL_LAYERS``
    ``CHANNEL_LAYERS`` as JSON. Absent: no channel layer.
``TEST_WSREALTIME``
    ``WSREALTIME`` as JSON. Absent: the defaults.
"""

import getpass
import json
import os
import tempfile
from pathlib import Path
from typing import Any

BASE_DIR = Path(__file__).resolve().parent

SECRET_KEY = "tests-only-not-a-secret-0123456789abcdefghijklmnop"
DEBUG = False
ALLOWED_HOSTS = ["localhost", "127.0.0.1", "testserver"]

INSTALLED_APPS = [
    "django_wsrealtime",
    "daphne",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "tests.testapp",
]

MIDDLEWARE = [
    "django_wsrealtime.middleware.RealtimeMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

ROOT_URLCONF = "tests.urls"
ASGI_APPLICATION = "tests.asgi.application"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

# Named by process id; tests.support removes those of processes that are gone.
SQLITE_DIR = Path(tempfile.gettempdir()) / f"databases-of-{getpass.getuser()}"
SQLITE_DIR.mkdir(mode=0o700, exist_ok=True)

TEST_DATABASE = os.environ.get("TEST_DATABASE", "sqlite")


def _sqlite(alias: str) -> dict[str, Any]:
    """A database in a file: threads and processes see the same rows, as in production."""
    path = SQLITE_DIR / f"{os.getpid()}-{alias}.sqlite3"
    return {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": os.environ.get(f"TEST_DATABASE_{alias.upper()}", str(path)),
        "OPTIONS": {
            "timeout": 20,
            "transaction_mode": "IMMEDIATE",
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=OFF;",
        },
        "TEST": {"NAME": str(path)},
    }


def _postgres(alias: str) -> dict[str, Any]:
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": os.environ.get(f"TEST_DATABASE_{alias.upper()}", "postgres"),
        "USER": "postgres",
        "HOST": os.environ.get("TEST_DATABASE_HOST", "127.0.0.1"),
        "PORT": os.environ.get("TEST_DATABASE_PORT", ""),
        "TEST": {"NAME": f"wsrealtime_{alias}", "DEPENDENCIES": []},
    }


match TEST_DATABASE:
    case "sqlite":
        DATABASES = {alias: _sqlite(alias) for alias in ("default", "other")}
    case "postgres":
        DATABASES = {alias: _postgres(alias) for alias in ("default", "other")}
        INSTALLED_APPS.append("django.contrib.postgres")
    case _:
        raise ValueError(f"TEST_DATABASE is {TEST_DATABASE!r}; set it to 'sqlite' or 'postgres'.")

# Tables are made from the models. The test app has no migrations, and a table without them cannot
# refer to one with them.
MIGRATION_MODULES = dict.fromkeys(("auth", "contenttypes", "sessions"))

DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]

CHANNEL_LAYERS: dict[str, Any] = json.loads(os.environ.get("TEST_CHANNEL_LAYERS", "{}"))
if "TEST_WSREALTIME" in os.environ:
    WSREALTIME: dict[str, Any] = json.loads(os.environ["TEST_WSREALTIME"])

USE_TZ = True
TIME_ZONE = "UTC"
LANGUAGE_CODE = "en"
STATIC_URL = "/static/"
