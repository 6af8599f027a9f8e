"""What runs inside the sandbox: standard library only, nothing of papercore is importable there."""
