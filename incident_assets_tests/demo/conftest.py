"""The contract test needs the contract, which is not part of the project."""

import os

collect_ignore = [] if os.environ.get("INCIDENT_API_CONTRACT") else ["test_contract.py"]
CONTRACT = os.environ.get("INCIDENT_API_CONTRACT", "")
