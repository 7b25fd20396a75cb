from profiling.spec import SpecError


def check_config(config, architecture=None):
    if "auto_map" in config:
        raise SpecError("config", "remote code")
    return {k: v for k, v in config.items() if not k.startswith("_")}
