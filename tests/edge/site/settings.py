"""The test site's settings with the pages of this package."""

from tests.settings import *  # noqa: F403
from tests.settings import MIDDLEWARE

ROOT_URLCONF = "tests.edge.site.urls"
MIDDLEWARE = [MIDDLEWARE[0], "tests.edge.site.pages.strict_policy", *MIDDLEWARE[1:]]
