"""Read the event types of this deployment, as admins see them."""

from lms_webhooks.model.event_types import EventTypes, InvalidDetails, with_details, with_extra_types
from lms_webhooks.observability import report
from lms_webhooks.settings import AdminApiSettings


def read_event_types(settings: AdminApiSettings) -> EventTypes:
    """Return the catalogue with the deployer's own types, and their labels and samples.

    A mistake in these is an internal error with an alarm. It takes nothing from the API but the labels.
    """
    event_types = with_extra_types(settings.extra_event_types)
    try:
        return with_details(event_types, settings.extra_event_type_details)
    except InvalidDetails as error:
        report(error, "ExtraEventTypeDetails not read", reason=str(error))
        return event_types
