"""Exit 0 when an address answers and, where a component is named, its JSON calls that component healthy."""

import json
import sys
import urllib.request


def healthy(url: str, component: str | None) -> bool:
    """Whether `url` answers 200 and reports `component` as healthy."""
    try:
        with urllib.request.urlopen(url, timeout=8) as answer:
            if component is None:
                return True
            status = json.load(answer).get(component, {}).get("status")
            return bool(status == "healthy")
    except (OSError, ValueError):
        return False


if __name__ == "__main__":
    sys.exit(0 if healthy(sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else None) else 1)
