"""Log in with name and password, get a token; give it back."""

from __future__ import annotations

from datetime import timedelta

from django.contrib.auth import authenticate
from django.views.decorators.debug import sensitive_post_parameters
from knox.models import AuthToken
from rest_framework import status
from rest_framework.decorators import api_view, authentication_classes, permission_classes, throttle_classes
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.throttling import ScopedRateThrottle

from llmcompare.api.errors import Refused
from llmcompare.api.schema import operation
from llmcompare.api.serializers import LoginSerializer, TokenSerializer


class LoginThrottle(ScopedRateThrottle):
    """Guessing passwords is slow; django-axes locks an account out besides."""

    scope = "login"

    def allow_request(self, request, view) -> bool:
        view.throttle_scope = self.scope
        return super().allow_request(request, view)


@operation(
    "log_in",
    summary="Get a token for name and password",
    tags=["tokens"],
    request=LoginSerializer,
    responses={201: TokenSerializer},
    errors=(400, 403),
    anonymous=True,
)
@sensitive_post_parameters("password")
@api_view(["POST"])
@authentication_classes([])
@permission_classes([AllowAny])
@throttle_classes([LoginThrottle])
def log_in(request: Request) -> Response:
    form = LoginSerializer(data=request.data)
    form.is_valid(raise_exception=True)
    given = form.validated_data
    plain = request._request
    user = authenticate(plain, username=given["username"], password=given["password"])
    if getattr(plain, "axes_locked_out", False):
        # Or its middleware would replace this answer by a page.
        plain.axes_locked_out = False
        raise Refused(429, "locked_out", "Too many wrong passwords. Try again in a quarter of an hour.")
    if user is None:
        raise Refused(403, "wrong_password", "Name or password is wrong.")
    token, secret = AuthToken.objects.create(user, expiry=timedelta(days=given["days"]))
    answer = {"token": secret, "expires": token.expiry, "username": user.get_username()}
    made = Response(TokenSerializer(answer).data, status=status.HTTP_201_CREATED)
    made["Cache-Control"] = "no-store"
    return made


@operation(
    "log_out",
    summary="End the token this request is made with",
    tags=["tokens"],
    request=None,
    responses={204: None},
    errors=(409,),
)
@api_view(["POST"])
def log_out(request: Request) -> Response:
    if not isinstance(request.auth, AuthToken):
        raise Refused(409, "no_token", "This request was made with a browser session, not with a token.")
    request.auth.delete()
    return Response(status=status.HTTP_204_NO_CONTENT)
