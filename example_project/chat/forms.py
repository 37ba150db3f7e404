"""The form that says something, with and without JavaScript."""

from django import forms

from chat.models import Message


class MessageForm(forms.Form):
    text = forms.CharField(
        label="Message",
        max_length=Message.MAX_LENGTH,
        widget=forms.TextInput(attrs={"autocomplete": "off", "placeholder": "Write a message"}),
    )
