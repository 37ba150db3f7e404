"""Our side: a public topic with the default history."""

from django_wsrealtime import Topic, register


@register("fanout/<slug:slug>")
class Fanout(Topic):
    public = True
