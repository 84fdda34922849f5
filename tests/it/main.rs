//! The promises to a user, each a file named after it, against the shipped binary and a real Kafka.
//!
//! Run by `tests/run`, which starts the shared broker. Deliberately absent: any use of the crate's own code, but for
//! the reference client in the one file that judges it.

#![allow(clippy::disallowed_methods, reason = "the fences are the gateway's; a test is not the gateway")]
#![allow(clippy::print_stderr, reason = "what a failed test prints is its output")]
#![allow(unreachable_pub, reason = "a test binary has no users")]

mod harness;

mod every_byte_reaches_twenty_v1_clients;
mod bad_records_have_one_disposition_each;
mod come_back_from_before_the_log;
mod compaction_leaves_holes;
mod any_host_after_kill_nine;
mod filters_show_what_was_asked_for;
mod redis_helps_and_never_hurts;
mod kill_nine_loses_nothing;
mod the_reference_client_resumes;
mod sigterm_says_goodbye;
mod hostile_clients_hurt_nobody;
mod resume_answers_are_typed;
mod broker_gone_and_back;
mod two_gateways_agree;
mod pause_stops_one_partition;
mod fail_closed_holds_the_commit;
mod topic_appears_later;
mod producer_outcomes_are_true;
mod limiter_is_shared;
mod group_mode_shares;
mod stream_changed_is_told;
mod transactions_are_holes;
mod http_tells_the_truth;
mod page_shows_runs_and_survives_a_break;
mod a_slow_client_is_told_what_it_missed;
mod the_demo_runs_by_itself;
mod topics_are_as_declared;
mod secured_clusters;
mod secured_commands;
mod cli_sends_events;
mod cli_reads_a_topic;
mod tail_follows_through_breaks;
mod gateway_breaks_half_way;
mod cli_exports_a_million;
mod cli_ends_as_it_says;
mod progress_is_for_who_looks;
mod cli_explains_a_run;
mod shells_and_manuals_are_served;
mod every_form_is_as_committed;
mod readme_runs_as_written;
mod the_examples_run;
mod watch_survives_a_resize_and_a_lost_connection;
