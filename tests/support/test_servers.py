"""Server processes: they start, echo, die, return on their port, and explain a failed start."""

import urllib.request

import pytest
from websockets.sync.client import connect

from tests.support.plugin import RunPython, StartServer
from tests.support.processes import ProcessDied, accepts
from tests.support.servers import SERVER_KINDS, ServerKind
from tests.testapp.models import Customer

PLAIN = "tests.support.plain_asgi:application"


def answer(url: str) -> str:
    with urllib.request.urlopen(url, timeout=10) as response:
        body: bytes = response.read()
        return body.decode()


@pytest.mark.parametrize("kind", SERVER_KINDS)
def test_serves_until_it_is_stopped(kind: ServerKind, server_process: StartServer) -> None:
    server = server_process(kind, application=PLAIN)
    assert answer(server.url()).isdigit()
    with connect(server.ws_url("/"), open_timeout=10) as client:
        client.send("hello")
        assert client.recv(timeout=10) == "hello"
    server.stop()
    assert not accepts(server.port)


def test_returns_on_the_same_port_after_a_crash(server_process: StartServer) -> None:
    server = server_process("uvicorn", application=PLAIN)
    first = answer(server.url())
    server.kill()
    assert not server.alive
    assert not accepts(server.port)
    server.start()
    assert answer(server.url()) != first


def test_a_failed_start_shows_the_log(server_process: StartServer) -> None:
    with pytest.raises(ProcessDied, match="no_such_module"):
        server_process("daphne", application="no_such_module:application")


@pytest.mark.django_db(transaction=True)
def test_another_process_saves_a_row_that_this_one_sees(run_python: RunPython) -> None:
    printed = run_python(
        """
        from tests.testapp.models import Customer

        print(Customer.objects.create(name="Ann").pk)
        """
    )
    assert Customer.objects.get(pk=int(printed)).name == "Ann"


@pytest.mark.django_db(transaction=True)
def test_another_process_fails_with_its_traceback(run_python: RunPython) -> None:
    with pytest.raises(pytest.fail.Exception, match="on purpose"):
        run_python("raise ValueError('on purpose')")
