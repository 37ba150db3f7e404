"""Topics are found by their names, and a name is never guessed."""

import pytest

from django_wsrealtime.errors import ConfigurationError, UnknownTopic
from django_wsrealtime.topics import Topic, action
from django_wsrealtime.topics.registry import Registry, autodiscover

pytestmark = pytest.mark.usefixtures("topics")


@pytest.fixture
def orders(topics: Registry) -> type[Topic]:
    @topics.register("orders/<int:store_id>")
    class Orders(Topic):
        pass

    return Orders


def test_an_instance_and_its_name_are_the_same_topic(orders: type[Topic], topics: Registry) -> None:
    made, found = orders(store_id=7), topics.resolve("orders/7")
    assert made == found
    assert hash(made) == hash(found)
    assert type(found) is orders
    assert found.store_id == 7
    assert made.name == "orders/7"
    assert made != orders(store_id=8)
    assert repr(made) == "Orders(store_id=7)"


def test_params_cannot_be_changed(orders: type[Topic]) -> None:
    with pytest.raises(TypeError):
        orders(store_id=7).params["store_id"] = 8  # type: ignore[index]


def test_a_name_that_is_not_canonical_is_refused_and_corrected(
    orders: type[Topic], topics: Registry
) -> None:
    assert topics.find("orders/007") is None
    with pytest.raises(UnknownTopic, match="'orders/007' is called 'orders/7'"):
        topics.resolve("orders/007")


def test_an_unknown_name_is_answered_with_what_is_near(
    orders: type[Topic], topics: Registry
) -> None:
    with pytest.raises(UnknownTopic, match="did you mean 'orders/<int:store_id>'"):
        topics.resolve("order/7")
    with pytest.raises(UnknownTopic, match=r"the routes are .*'orders/<int:store_id>'"):
        topics.resolve("something/else")


def test_a_name_that_cannot_be_seen_is_refused(topics: Registry) -> None:
    @topics.register("any/<path:rest>")
    class Anything(Topic):
        pass

    assert topics.find("any/a") == Anything(rest="a")
    assert topics.find("any/a\u202eb") is None
    with pytest.raises(UnknownTopic, match=r"U\+202E"):
        topics.resolve("any/a\u202eb")


def test_a_route_taken_twice_names_both_places(orders: type[Topic], topics: Registry) -> None:
    with pytest.raises(ConfigurationError) as caught:

        @topics.register("orders/<int:store_id>")
        class Others(Topic):
            pass

    assert str(caught.value).count("test_registry.py:") == 2
    assert "Orders" in str(caught.value)
    assert "Others" in str(caught.value)


def test_a_class_registered_twice_names_both_places(orders: type[Topic], topics: Registry) -> None:
    with pytest.raises(ConfigurationError) as caught:
        topics.register("again/<int:store_id>")(orders)
    assert str(caught.value).count("test_registry.py:") == 2
    assert topics.find("again/7") is None


def test_a_subclass_has_a_route_of_its_own(orders: type[Topic], topics: Registry) -> None:
    class Special(orders):  # type: ignore[misc, valid-type]
        pass

    with pytest.raises(ConfigurationError, match=r"Special.*@register"):
        Special(store_id=7)
    topics.register("special/<int:store_id>")(Special)
    assert Special(store_id=7).name == "special/7"
    assert orders(store_id=7).name == "orders/7"


@pytest.mark.parametrize("parameter", ["name", "params", "history", "publish", "can_subscribe"])
def test_a_parameter_does_not_hide_what_every_topic_has(topics: Registry, parameter: str) -> None:
    with pytest.raises(ConfigurationError, match=f"parameter '{parameter}'"):
        topics.register(f"a/<{parameter}>")(type("Hidden", (Topic,), {}))


def test_a_parameter_does_not_hide_an_action(topics: Registry) -> None:
    class Counter(Topic):
        @action
        def step(self, ctx: object) -> None: ...

    with pytest.raises(ConfigurationError, match="parameter 'step'"):
        topics.register("counter/<int:step>")(Counter)


@pytest.mark.parametrize("option", ["publish_by", "whisper_by"])
def test_a_misspelt_option_is_refused(topics: Registry, option: str) -> None:
    with pytest.raises(ConfigurationError, match="expected 'server' or 'subscribers'"):
        topics.register("a")(type("Misspelt", (Topic,), {option: "subscriber"}))


def test_what_was_refused_is_not_registered(topics: Registry) -> None:
    with pytest.raises(ConfigurationError):
        topics.register("a")(type("Misspelt", (Topic,), {"publish_by": "anybody"}))
    assert topics.find("a") is None


def test_the_first_of_two_overlapping_routes_wins(topics: Registry) -> None:
    first = topics.register("a/<slug:x>")(type("First", (Topic,), {}))
    topics.register("a/<int:y>")(type("Second", (Topic,), {}))
    assert type(topics.resolve("a/1")) is first


def test_a_type_that_does_not_exist_is_found_by_autodiscovery(topics: Registry) -> None:
    @topics.register("late")
    class Late(Topic):
        @action
        def go(self, ctx: object, to: "Nowhere") -> None: ...  # type: ignore[name-defined]  # noqa: F821

    with pytest.raises(ConfigurationError, match=r"go.*Nowhere"):
        autodiscover()
