"""Shapes of hardware, hosts and ceilings. The rest is in :mod:`llmcompare.api.serializers`."""

from __future__ import annotations

from rest_framework import serializers

from llmcompare.api.serializers import Strict


class HardwareSerializer(serializers.Serializer):
    slug = serializers.CharField(help_text="names the hardware in every other call")
    name = serializers.CharField(source="__str__")
    vendor = serializers.CharField(allow_blank=True)
    kind = serializers.CharField()
    year = serializers.IntegerField(allow_null=True)
    memory_bytes = serializers.IntegerField(allow_null=True)
    memory_bandwidth = serializers.FloatField(allow_null=True, help_text="bytes per second")
    peak_flops = serializers.DictField(
        child=serializers.FloatField(allow_null=True), help_text="dense FLOP/s by dtype; null where unknown"
    )
    cache_bytes = serializers.IntegerField(allow_null=True)
    interconnect_bandwidth = serializers.FloatField(allow_null=True, help_text="bytes per second, both directions")
    tdp_w = serializers.FloatField(allow_null=True)
    source = serializers.CharField()
    compiled_on = serializers.DateField(allow_null=True)


class HardwareDetailSerializer(HardwareSerializer):
    note = serializers.CharField(allow_blank=True)
    confidence = serializers.JSONField(help_text="field → status (confirmed, unconfirmed, measured) and sources")


class HostSerializer(serializers.Serializer):
    slug = serializers.CharField(help_text="names the host when a measurement is launched")
    name = serializers.CharField()
    hardware = serializers.CharField(source="hardware.slug", allow_null=True, default=None)
    has_engine = serializers.BooleanField(help_text="false: it can run no measurement")
    engine_note = serializers.CharField(allow_blank=True)
    ceilings_state = serializers.CharField()
    online = serializers.BooleanField()
    seen = serializers.DateTimeField(allow_null=True)


class AskCeilingsSerializer(Strict):
    quick = serializers.BooleanField(default=True, help_text="false: larger products, about four times as long")


class CeilingMeasurementSerializer(serializers.Serializer):
    state = serializers.CharField(help_text="queued, running, done, failed or cancelled")
    quick = serializers.BooleanField()
    progress = serializers.FloatField(help_text="0 to 1")
    message = serializers.CharField(allow_blank=True)
    error = serializers.CharField(allow_blank=True, help_text="why it failed")
    outcome = serializers.JSONField(
        help_text="accepted, contended and kept rows; versions, affinity, processes, duration_s"
    )
    created = serializers.DateTimeField()
    started = serializers.DateTimeField(allow_null=True)
    finished = serializers.DateTimeField(allow_null=True)


class CeilingSerializer(serializers.Serializer):
    op_class = serializers.CharField()
    dtype = serializers.CharField(allow_blank=True)
    threads = serializers.IntegerField(help_text="0: threads play no part")
    value = serializers.FloatField(help_text="the best of all processes")
    unit = serializers.CharField(help_text="FLOP/s, OP/s, B/s or s")
    median = serializers.FloatField(allow_null=True)
    quality = serializers.CharField(help_text="ok: processes agree; contended: they do not, or other work ran")
    detail = serializers.JSONField(help_text="best of each process, spread, versions, what was timed")
    measured_at = serializers.DateTimeField()


class HostCeilingsSerializer(serializers.Serializer):
    host = serializers.CharField()
    state = serializers.CharField(help_text="missing, measuring, done or failed")
    measurement = CeilingMeasurementSerializer(allow_null=True, help_text="the newest one")
    rows = CeilingSerializer(many=True)


# --- runs ------------------------------------------------------------------------------------------------------------
