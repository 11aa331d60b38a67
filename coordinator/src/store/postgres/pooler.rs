//! Poolers of connections, such as pgbouncer, that stand before the database.
//!
//! A coordinator needs sessions of its own: their settings (which schema, how long a statement may take),
//! prepared statements, LISTEN, and the process at the server that is ended when a call gets no answer.
//! Where a pooler gives each transaction another session, some of these fail now and then, in words that
//! help nobody, and others silently. So it is looked for at the start.

use deadpool::managed::Manager as _;
use tokio_postgres::SimpleQueryMessage;

use super::{
    super::StoreError,
    connect::{Failure, Manager, SCHEMA, Session, within},
};

/// How often two sessions are compared: others may use the pooler meanwhile.
const LOOKS: usize = 3;

/// The first session, if sessions are what they should be.
pub(super) async fn connect(manager: &Manager, store: &str) -> Result<Session, StoreError> {
    let found = |evidence: &str| StoreError::Unfit {
        store: store.into(),
        why: format!(
            "a pooler such as pgbouncer stands before it: {evidence}; a coordinator needs sessions of its \
             own, for their settings, prepared statements and LISTEN: connect to PostgreSQL directly"
        ),
    };
    let open = async || {
        let opened = within(async { Ok(manager.create().await?) }).await;
        opened.map_err(|failure| match failure {
            // PostgreSQL itself knows the parameter.
            Failure::Database(error)
                if error.to_string().contains("startup parameter")
                    || error
                        .as_db_error()
                        .is_some_and(|e| e.message().contains("startup parameter")) =>
            {
                found("it refuses the settings of a session")
            }
            failure => failure.error("connecting to", store),
        })
    };
    let session = open().await?;
    let other = open().await?;
    let failed = |failure: Failure| failure.error("connecting to", store);
    for _ in 0..LOOKS {
        let one = within(look(&session)).await.map_err(failed)?;
        let two = within(look(&other)).await.map_err(failed)?;
        if one.backend == two.backend {
            return Err(found(
                "two connections share one session (pool_mode=transaction or statement)",
            ));
        }
        if one.schema != SCHEMA {
            return Err(found("it ignores the settings of a session (ignore_startup_parameters)"));
        }
    }
    Ok(session)
}

/// What a session says of itself.
struct Looked {
    /// Its process at the server, and when that began.
    backend: (String, String),
    /// Where names without a schema are looked up.
    schema: String,
}

/// What it is, asked by a statement that is not prepared under a name.
async fn look(session: &Session) -> Result<Looked, Failure> {
    let sql = "SELECT pid::text, backend_start::text, current_setting('search_path')
         FROM pg_stat_activity WHERE pid = pg_backend_pid()";
    let messages = session.simple_query(sql).await?;
    let row = messages.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    });
    let row = row.ok_or_else(|| Failure::Other("it does not know its own process".into()))?;
    let text =
        |at| -> Result<String, Failure> { Ok(row.try_get(at)?.unwrap_or_default().to_owned()) };
    Ok(Looked { backend: (text(0)?, text(1)?), schema: text(2)? })
}
