"""A room as a page that works without JavaScript: read, write, reload."""

from django.contrib.auth.decorators import login_required
from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render

from chat.forms import MessageForm
from chat.models import Message, Room


@login_required
def first_room(request: HttpRequest) -> HttpResponse:
    return redirect(get_object_or_404(Room.objects.open_to(request.user)[:1]))


@login_required
def room(request: HttpRequest, slug: str) -> HttpResponse:
    room = get_object_or_404(Room.objects.open_to(request.user), slug=slug)
    form = MessageForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        room.say(author=request.user, text=form.cleaned_data["text"])
        return redirect(room)
    newest = room.messages.select_related("author").order_by("-pk")[:50]
    context = {
        "room": room,
        "rooms": Room.objects.open_to(request.user),
        "said": list(newest)[::-1],
        "blank": Message(author=User()),
        "form": form,
    }
    return render(request, "chat/room.html", context)
