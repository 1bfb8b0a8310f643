//! Each part's errors: which code, what to change.

use serde_json::json;

use super::{Code, Reply};
use crate::{catalog, log, offline, pipeline, registry, sinks, store, training};

/// What a client cannot mend.
pub fn internal() -> Reply {
    Reply::new(Code::Internal, "the server's log has more under the request id")
}

pub fn of_catalog(error: &catalog::Error) -> Reply {
    use catalog::Error as E;
    match error {
        E::Invalid { field, hint, .. } => Reply::with(Code::InvalidRequest, hint, json!({ "field": field })),
        E::NotFound { hint, .. } => Reply::new(Code::NotFound, hint),
        E::Conflict { diff, hint, .. } => Reply::with(Code::Conflict, hint, json!({ "diff": diff })),
        E::InUse { by, .. } => Reply::with(
            Code::Conflict,
            "drop those first (a feature group's views go with force=true)",
            json!({ "used_by": by }),
        ),
        E::Sql(error) => Reply::with(
            Code::InvalidSql,
            &error.hint,
            json!({ "reason": error.code, "construct": error.construct, "nearest": error.hint }),
        ),
        E::Schema(_) => Reply::new(Code::InvalidSchema, "change the field that the message names"),
        E::Store(error) => of_store(error),
        E::Stored { .. } => internal(),
    }
}

pub fn of_store(error: &store::Error) -> Reply {
    use store::Error as E;
    match error {
        E::Sequence { last } => Reply::with(
            Code::SequenceConflict,
            "send the batch after the last one, or begin anew under another producer id",
            json!({ "last_sequence": last }),
        ),
        _ => internal(),
    }
}

pub fn of_log(error: &log::Error) -> Reply {
    use log::Error as E;
    match error {
        E::Gone { first, .. } => {
            Reply::with(Code::Gone, "read from the first offset that is left", json!({ "first": first }))
        }
        E::Replaced { .. } => Reply::new(Code::Gone, "drop the stream and create it anew over the new topic"),
        E::Unavailable { .. } => {
            Reply::new(Code::Unavailable, "wait until the brokers answer; nothing is lost")
        }
        E::Missing { .. } => Reply::new(Code::NotFound, "create the topic, or mend its name in the stream"),
        E::Configuration { .. } => Reply::new(
            Code::Unsupported,
            "set kafka.bootstrap_servers and the properties that the brokers want",
        ),
        E::Store(error) => of_store(error),
    }
}

pub fn of_registry(error: &registry::Error) -> Reply {
    use registry::Error as E;
    match error {
        E::Unavailable { .. } => Reply::new(Code::Unavailable, "wait until the schema registry answers"),
        E::Unknown { .. } | E::NoSubject(_) | E::NoVersion(_) | E::NoSchema => {
            Reply::new(Code::NotFound, "register the schema first")
        }
        E::InvalidSchema(_) => Reply::new(Code::InvalidSchema, "change the field that the message names"),
        E::Incompatible { reasons, .. } => Reply::with(
            Code::InvalidSchema,
            "keep the schema compatible, lower the subject's compatibility level, or use another subject",
            json!({ "incompatibilities": reasons }),
        ),
        E::Configuration(_) => internal(),
        E::Store(error) => of_store(error),
        // What only the registry's own routes can run into; they answer with its own codes.
        _ => Reply::new(Code::InvalidRequest, "look at the subject under /schema-registry/subjects"),
    }
}

pub fn of_pipeline(error: &pipeline::Error) -> Reply {
    use pipeline::Error as E;
    match error {
        E::NotFound(_) => Reply::new(Code::NotFound, "the feature group was dropped"),
        E::OtherStream => {
            Reply::new(Code::InvalidRequest, "use the position of an append to a stream that the group reads")
        }
        E::Timeout { status, .. } => Reply::with(
            Code::Timeout,
            "look at the group's status, or wait longer",
            json!({ "state": status.state.name(), "reason": status.state.reason(), "lag": status.lag() }),
        ),
        E::Standing { status } => Reply::with(
            Code::Unsupported,
            status.state.mend().unwrap_or("resume the group first"),
            json!({ "state": status.state.name(), "reason": status.state.reason() }),
        ),
        E::Thread(_) => internal(),
    }
}

pub fn of_offline(error: &offline::Error) -> Reply {
    use offline::Error as E;
    match error {
        E::UnknownGroup(_) => Reply::new(Code::NotFound, "the feature group was dropped"),
        E::Halted(_) => {
            Reply::new(Code::Unavailable, "the drain to Delta stands still: the message says what to do")
        }
        E::Delta(_) => {
            Reply::new(Code::Unavailable, "the table's storage does not answer; what is committed is kept")
        }
        E::Store(error) => of_store(error),
        _ => internal(),
    }
}

pub fn of_sink(error: &sinks::Error) -> Reply {
    use sinks::Error as E;
    match error {
        E::Log(error) => of_log(error),
        E::Registry(error) => of_registry(error),
        E::Store(error) => of_store(error),
        E::Halted(_) | E::Disk { .. } | E::Rows(_) => Reply::new(Code::Unavailable, error.mend()),
    }
}

pub fn of_training(error: &training::Error) -> Reply {
    if error.is_callers() {
        return Reply::new(
            Code::InvalidRequest,
            "change the table of labels, or the event_time that names its column",
        );
    }
    match error {
        training::Error::Offline(error) => of_offline(error),
        _ => internal(),
    }
}
