"""Forms of the dashboard; nothing in them knows about realtime."""

from django import forms

from dashboard.models import Customer, Order


class OrderForm(forms.ModelForm):
    customer = forms.ModelChoiceField(Customer.objects.all(), empty_label="Choose …")

    class Meta:
        model = Order
        fields = ["customer", "total", "note"]
        widgets = {
            "total": forms.NumberInput(
                attrs={"step": "0.01", "min": "0.10", "inputmode": "decimal"}
            ),
            "note": forms.TextInput(attrs={"placeholder": "optional"}),
        }


class EditOrderForm(OrderForm):
    class Meta(OrderForm.Meta):
        fields = ["customer", "total", "status", "note"]


class CustomerForm(forms.ModelForm):
    class Meta:
        model = Customer
        fields = ["name"]
