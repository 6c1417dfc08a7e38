"""moto reaches only botocore sessions that are made after its import, and `lms_webhooks.aws` makes one at its
own. So moto comes first, whichever test is collected first."""

import moto  # noqa: F401

pytest_plugins = ("tests.schedule", "tests.progress")
