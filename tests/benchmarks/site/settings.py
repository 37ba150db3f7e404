"""Settings of the servers and publishers that benchmarks start.

``BENCHMARK_REDIS`` names the redis-server. Both sides use the same one, the stock side through
channels_redis' pub/sub layer, which is the faster of its two.
"""

import os
from typing import Any

SECRET_KEY = "benchmarks-only-not-a-secret-0123456789abcdefghijkl"
DEBUG = False
ALLOWED_HOSTS = ["127.0.0.1"]
INSTALLED_APPS = [
    "django_wsrealtime",
    "daphne",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "tests.benchmarks.site",
]
ROOT_URLCONF = "tests.benchmarks.site.urls"
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
# redis-py 8 has a read timeout by default, which ends channels_redis' blocking reads.
_host = {"address": os.environ.get("BENCHMARK_REDIS", ""), "socket_timeout": None}
CHANNEL_LAYERS: dict[str, Any] = {
    "default": {
        "BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer",
        "CONFIG": {"hosts": [_host]},
    }
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
