"""Asset checks: what the operator should notice before people do."""
