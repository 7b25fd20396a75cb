"""Forms for models: an upload, another name, the admin's entry."""

from __future__ import annotations

from typing import Any

from django import forms
from django.conf import settings
from django.utils.text import format_lazy
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from llmcompare.catalog.catalogue import config_digest
from llmcompare.catalog.configs import parse_config
from llmcompare.catalog.models import Folder, LanguageModel
from llmcompare.common.engine_texts import engine_text
from llmcompare.common.errors import FieldErrors
from llmcompare.common.forms import BootstrapForm, add_errors
from profiling.folders import real_root
from profiling.safety import check_config
from profiling.spec import SpecError

MAX_FOLDER_PATH = Folder._meta.get_field("path").max_length or 400


class UploadForm(BootstrapForm, forms.Form):
    """A name and a ``config.json``, as a file or as text; a file counts before the text."""

    name = forms.CharField(label=_("Name"), max_length=150, help_text=_("For you to find it again."))
    file = forms.FileField(
        label="config.json",
        required=False,
        help_text=format_lazy(
            _("At most {size} kB. No weights are needed."), size=settings.CONFIG_UPLOAD_BYTES // 1000
        ),
        widget=forms.FileInput(attrs={"accept": ".json,application/json"}),
    )
    text = forms.CharField(
        label=_("or its text"),
        required=False,
        strip=False,
        widget=forms.Textarea(attrs={"rows": 12, "spellcheck": "false", "class": "font-monospace"}),
    )

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
        file, text = cleaned.get("file"), cleaned.get("text") or ""
        self.config_field = "file" if file else "text"
        if self.errors.get("file"):
            return cleaned
        if not file and not text.strip():
            self.add_error("file", gettext("Choose a config.json, or paste its text below."))
            return cleaned
        limit = settings.CONFIG_UPLOAD_BYTES
        try:
            # One byte more than allowed is enough to know that it is too much.
            content = file.read(limit + 1) if file else text
            if file and file.size > limit:
                message = gettext("The file has %(size)s bytes; at most %(limit)s are taken. Is it a config.json?") % {
                    "size": f"{file.size:,}",
                    "limit": f"{limit:,}",
                }
                raise FieldErrors({"config": message})
            self._keep(content)
            cleaned["config"] = parse_config(content, limit=limit)
        except FieldErrors as error:
            self.add_config_errors(error)
        return cleaned

    def add_config_errors(self, error: FieldErrors) -> None:
        add_errors(self, error.errors, names={"config": self.config_field})

    def _keep(self, content: bytes | str) -> None:
        """A browser forgets the chosen file when a form comes back, so its text is put where it can be put right."""
        if isinstance(content, bytes):
            try:
                text = content.decode("utf-8-sig")
            except UnicodeDecodeError:
                return
            self.data = {**self.data, "text": text}


class RenameForm(BootstrapForm, forms.Form):
    name = forms.CharField(label=_("Name"), max_length=150)


class AdminModelForm(forms.ModelForm):
    """An entry that everybody sees. The class, type and digest follow from the configuration."""

    class Meta:
        model = LanguageModel
        fields = [
            "slug",
            "name",
            "hf_id",
            "kind",
            "config",
            "parameters",
            "max_context",
            "weights_note",
            "licence",
        ]

    def clean_config(self) -> dict[str, Any]:
        config = self.cleaned_data["config"]
        if not isinstance(config, dict):
            raise forms.ValidationError(gettext("A config.json is one JSON object: { … }."))
        try:
            clean = check_config(config)
        except SpecError as error:
            raise forms.ValidationError(engine_text(str(error))) from None
        classes = clean.get("architectures")
        if not (isinstance(classes, list) and classes and isinstance(classes[0], str)):
            raise forms.ValidationError(gettext('Name the class, for example "architectures": ["LlamaForCausalLM"].'))
        return clean

    def save(self, commit: bool = True) -> LanguageModel:
        model, config = self.instance, self.cleaned_data["config"]
        model.architecture, model.model_type = config["architectures"][0], config["model_type"]
        sha256 = config_digest(config, model.architecture)
        if sha256 != model.config_sha256:
            # What the engine said was about another configuration.
            model.config_sha256, model.facts = sha256, None
        return super().save(commit)


class FolderForm(forms.ModelForm):
    """A folder of the server. Its real path is kept, so that a link put in its place later is noticed."""

    class Meta:
        model = Folder
        fields = ["name", "slug", "path", "holds", "active"]

    def clean_path(self) -> str:
        try:
            real = str(real_root(self.cleaned_data["path"].strip()))
        except SpecError as error:
            raise forms.ValidationError(engine_text(str(error))) from None
        if len(real) > MAX_FOLDER_PATH:
            raise forms.ValidationError(
                gettext("The real path has %(count)s characters; %(max_folder_path)s fit.")
                % {"count": len(real), "max_folder_path": MAX_FOLDER_PATH}
            )
        return real
