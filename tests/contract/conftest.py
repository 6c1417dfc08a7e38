"""The functions as they are deployed, for whichever test invokes them."""

from tests.contract.invocations import aws, invoke, logged, receiver

__all__ = ["aws", "invoke", "logged", "receiver"]
