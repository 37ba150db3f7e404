"""The front page, and two ways in: a password, or one click."""

from django.contrib.auth import get_user_model, login
from django.contrib.auth.views import LoginView
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.http import require_POST

from dashboard.charts import chart_of
from dashboard.models import Tick
from front.seed import PASSWORD, PEOPLE


def home(request: HttpRequest) -> HttpResponse:
    context = {"people": PEOPLE, "chart": chart_of(Tick.Symbol.ARABICA)}
    return render(request, "front/home.html", context)


class Login(LoginView):
    redirect_authenticated_user = True
    extra_context = {"people": PEOPLE, "password": PASSWORD}


@require_POST
def enter_as(request: HttpRequest) -> HttpResponse:
    """Logs in as one of the people of the demonstration, without a password, and no one else."""
    name = request.POST.get("name", "")
    user = get_object_or_404(get_user_model(), username=name if name in PEOPLE else "")
    login(request, user, backend="django.contrib.auth.backends.ModelBackend")
    following = request.POST.get("next", "")
    safe = url_has_allowed_host_and_scheme(following, allowed_hosts={request.get_host()})
    return redirect(following if safe else "dashboard:home")
