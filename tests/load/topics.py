"""The topics of the load tests, for servers and publishers alike."""

from django_wsrealtime import History, Topic, register


@register("ordered/<slug:slug>")
class Ordered(Topic):
    """Its history holds everything that the test publishes."""

    public = True
    history = History(size=25_000, ttl=300)


@register("wide/<slug:slug>")
class Wide(Topic):
    """Large events, and a history that a stalled reader is soon behind of."""

    public = True
    history = History(size=100, ttl=300)
