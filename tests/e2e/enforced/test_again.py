"""What admins, receivers and the LMS are promised holds with no more permissions than the template grants.

The same tests as above, chosen so that each call of AWS that a function can make is made: a permission that
is missing fails one of them.
"""

from tests.e2e.test_admin_document import test_every_call_of_the_document_answers_what_stands_there
from tests.e2e.test_backlog import (
    test_a_deleted_webhook_leaves_its_backlog_as_failed,
    test_a_pause_loses_nothing_and_keeps_the_order,
    test_non_real_time_events_go_out_together_on_the_schedule,
    test_one_poison_event_holds_nothing_up,
)
from tests.e2e.test_deliveries import (
    test_a_message_that_comes_twice_is_delivered_once,
    test_an_event_arrives_with_the_proof_that_its_webhook_chose,
)
from tests.e2e.test_quarantine import test_a_malformed_event_is_quarantined_with_its_reason
from tests.e2e.test_resends import (
    history,
    test_a_sample_is_sent_and_both_secrets_verify_it_during_a_change,
    test_one_and_then_all_are_sent_again,
)

__all__ = [
    "history",
    "test_a_deleted_webhook_leaves_its_backlog_as_failed",
    "test_a_malformed_event_is_quarantined_with_its_reason",
    "test_a_message_that_comes_twice_is_delivered_once",
    "test_a_pause_loses_nothing_and_keeps_the_order",
    "test_a_sample_is_sent_and_both_secrets_verify_it_during_a_change",
    "test_an_event_arrives_with_the_proof_that_its_webhook_chose",
    "test_every_call_of_the_document_answers_what_stands_there",
    "test_non_real_time_events_go_out_together_on_the_schedule",
    "test_one_and_then_all_are_sent_again",
    "test_one_poison_event_holds_nothing_up",
]
