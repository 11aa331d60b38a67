//! Connections to the database: where it is, in words without a password, and who may use them.
//!
//! Every call ends within [`CALL`], whatever became of the server: one that is stopped, or behind a
//! cable that was cut, still looks connected. A connection whose call got no answer is not used again,
//! and what it may still do is *settled* before anybody reads what there is (see [`Link::settle`]).

use std::{
    collections::HashMap,
    error::Error as _,
    fmt,
    future::Future,
    ops::Deref,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use cloister_web::ClientTls;
use deadpool::managed::{self, Metrics, Object, Pool, PoolError, RecycleError, RecycleResult};
use futures_util::{
    StreamExt,
    future::BoxFuture,
    stream::{self, BoxStream},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    task::AbortHandle,
    time::{sleep, timeout},
};
use tokio_postgres::{
    AsyncMessage, Client, Config, Connection, NoTls, Socket, Statement, error::SqlState,
};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::{super::StoreError, url::Address};

/// How long a call may take, with waiting for a connection.
pub(super) const CALL: Duration = Duration::from_secs(5);
/// Connections at once, for all but the leader's lease.
const CONNECTIONS: usize = 12;
/// Statements that a connection keeps prepared; those of lists are as many as there are filters.
const STATEMENTS: usize = 100;

/// How long it is waited between looks whether processes of the server have ended.
const ENDING: Duration = Duration::from_millis(20);

/// Those of the processes `$1`, by the times of their start `$2`, that there are.
macro_rules! of {
    () => {
        " FROM unnest($1::int[], $2::timestamptz[]) AS b (pid, start)
          JOIN pg_stat_activity a ON a.pid = b.pid AND a.backend_start = b.start"
    };
}

/// Where our tables are.
pub(super) const SCHEMA: &str = "cloister";

/// What a session is set to, beyond what the database's owner chose. A statement ends before its caller
/// gives up on it. Nobody holds a lock for longer who does nothing with it.
const OPTIONS: &str = "-c search_path=cloister -c statement_timeout=4s \
    -c idle_in_transaction_session_timeout=4s -c default_transaction_isolation=read\\ committed \
    -c jit=off";

/// Why a call failed.
pub(super) enum Failure {
    Database(tokio_postgres::Error),
    /// There was no answer.
    Slow,
    /// In words.
    Other(String),
}

impl From<tokio_postgres::Error> for Failure {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Database(error)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Database(error) => f.write_str(&words(error)),
            Self::Slow => write!(f, "it gave no answer within {} seconds", CALL.as_secs()),
            Self::Other(words) => f.write_str(words),
        }
    }
}

impl Failure {
    /// The error with what was attempted.
    pub(super) fn error(self, doing: &'static str, store: &str) -> StoreError {
        let (store, cause) = (store.into(), self.to_string());
        if self.is_of_data() {
            StoreError::Refused { doing, store, cause }
        } else {
            StoreError::Postgres { doing, store, cause }
        }
    }

    /// Whether the database says of the data that it cannot store them: SQLSTATE classes 22 (data
    /// exception), 23 (integrity constraint violation) and 54 (program limit exceeded).
    fn is_of_data(&self) -> bool {
        let Self::Database(error) = self else { return false };
        let class = error.code().and_then(|code| code.code().get(..2));
        matches!(class, Some("22" | "23" | "54"))
    }

    /// Whether nothing is or will be done of what was asked.
    fn is_answer(&self) -> bool {
        match self {
            Self::Database(error) => error.as_db_error().is_some(),
            Self::Slow => false,
            Self::Other(_) => true,
        }
    }
}

/// An error of the driver with all that is below it.
pub(super) fn words(error: &tokio_postgres::Error) -> String {
    if let Some(error) = error.as_db_error() {
        let advice = match *error.code() {
            SqlState::READ_ONLY_SQL_TRANSACTION => {
                "; it is a standby, or was set read-only: name the primary"
            }
            SqlState::INSUFFICIENT_PRIVILEGE => {
                "; the user must own the database, or at least the schema cloister"
            }
            _ => "",
        };
        return format!("{error}{advice}");
    }
    let mut words = error.to_string();
    let mut below = error.source();
    while let Some(error) = below {
        words = format!("{words}: {error}");
        below = error.source();
    }
    if words.contains("invalid peer certificate") {
        words += "; --ca-file names the authority that is trusted, and the certificate must be for the \
                  URL's host";
    }
    words
}

/// A process of the server: its number is one's of others later on, but not with the same start.
type Backend = (i32, SystemTime);

/// A connection.
pub(super) struct Session {
    client: Client,
    backend: Backend,
    prepared: Mutex<HashMap<String, Statement>>,
    task: AbortHandle,
}

impl Session {
    /// The statement, prepared once for each connection.
    pub(super) async fn prepared(&self, sql: &str) -> Result<Statement, tokio_postgres::Error> {
        let known = || self.prepared.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(statement) = known().get(sql).cloned() {
            return Ok(statement);
        }
        let statement = self.client.prepare(sql).await?;
        let mut known = known();
        if known.len() >= STATEMENTS {
            known.clear();
        }
        known.insert(sql.into(), statement.clone());
        Ok(statement)
    }

    pub(super) fn client_mut(&mut self) -> &mut Client {
        &mut self.client
    }
}

impl Deref for Session {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Makes connections.
#[derive(Clone)]
pub(super) struct Manager {
    config: Config,
    /// Where they are encrypted.
    tls: Option<ClientTls>,
}

/// What comes from a server. Whoever waits for it has the connection read and written.
pub(super) type Messages = BoxStream<'static, Result<AsyncMessage, tokio_postgres::Error>>;

fn messages<S>(mut connection: Connection<Socket, S>) -> Messages
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    stream::poll_fn(move |context| connection.poll_message(context)).boxed()
}

impl Manager {
    /// `tls` is for an address that is encrypted.
    pub(super) fn of(address: &Address, tls: Option<&ClientTls>) -> Result<Self, StoreError> {
        let tls = tls.filter(|_| address.encrypted).cloned();
        if address.encrypted && tls.is_none() {
            let why =
                "its way is to be encrypted, and nobody is trusted to tell it from others".into();
            return Err(StoreError::Unfit { store: address.store.clone(), why });
        }
        let mut config = address.config.clone();
        let own = config.get_options().map_or(OPTIONS.into(), |own| format!("{OPTIONS} {own}"));
        config
            .options(own)
            .application_name("cloister")
            .connect_timeout(Duration::from_secs(3))
            .tcp_user_timeout(CALL)
            .keepalives(true)
            .keepalives_idle(Duration::from_secs(2))
            .keepalives_interval(Duration::from_secs(1))
            .keepalives_retries(3);
        Ok(Self { config, tls })
    }

    /// The same with one more option of the session.
    pub(super) fn with(mut self, option: &str) -> Self {
        let options = self.config.get_options().unwrap_or_default();
        let options = format!("{options} {option}");
        self.config.options(options);
        self
    }

    /// A connection, which lives for as long as somebody waits for what comes from it.
    pub(super) async fn connect(&self) -> Result<(Client, Messages), tokio_postgres::Error> {
        let Some(tls) = &self.tls else {
            let (client, connection) = self.config.connect(NoTls).await?;
            return Ok((client, messages(connection)));
        };
        // Asked for each time: the file of authorities may have been read again. A handshake's state is
        // large, and would be part of every call's.
        let tls = MakeRustlsConnect::new(tls.config());
        let (client, connection) = Box::pin(self.config.connect(tls)).await?;
        Ok((client, messages(connection)))
    }
}

impl managed::Manager for Manager {
    type Type = Session;
    type Error = tokio_postgres::Error;

    async fn create(&self) -> Result<Session, Self::Error> {
        let (client, mut messages) = self.connect().await?;
        // Whoever uses it learns from the call why it ended.
        let task = tokio::spawn(async move { while let Some(Ok(_)) = messages.next().await {} });
        let sql = "SELECT pid, backend_start FROM pg_stat_activity WHERE pid = pg_backend_pid()";
        // Ends the task if this is given up.
        let mut session = Session {
            client,
            backend: (0, SystemTime::UNIX_EPOCH),
            prepared: Mutex::default(),
            task: task.abort_handle(),
        };
        let row = session.client.query_one(sql, &[]).await?;
        session.backend = (row.try_get(0)?, row.try_get(1)?);
        Ok(session)
    }

    async fn recycle(&self, session: &mut Session, _: &Metrics) -> RecycleResult<Self::Error> {
        if session.client.is_closed() {
            return Err(RecycleError::message("it was closed"));
        }
        Ok(())
    }
}

/// The way to the database.
pub(super) struct Link {
    pub(super) store: String,
    pool: Pool<Manager>,
    /// Kept for the lease, which must not end since many wait to write.
    reserved: Pool<Manager>,
    /// Whose last call has no answer.
    abandoned: Arc<Mutex<Vec<Backend>>>,
}

/// A connection that is used. Unless it is known how that ended, it is closed.
struct Lent<'a> {
    session: Option<Object<Manager>>,
    abandoned: &'a Mutex<Vec<Backend>>,
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        if let Some(session) = self.session.take() {
            let session = Object::take(session);
            self.abandoned.lock().unwrap_or_else(PoisonError::into_inner).push(session.backend);
        }
    }
}

impl Link {
    /// No connection is made before it is needed.
    pub(super) fn new(store: String, manager: impl Fn() -> Manager) -> Result<Self, StoreError> {
        let pool = |size| {
            let built = Pool::builder(manager()).max_size(size).build();
            built.map_err(|e| Failure::Other(e.to_string()).error("preparing for", &store))
        };
        Ok(Self { pool: pool(CONNECTIONS)?, reserved: pool(1)?, abandoned: Arc::default(), store })
    }

    /// Has `work` done on a connection; what it does must be one statement that writes, or one
    /// transaction.
    pub(super) async fn call<T, F>(&self, doing: &'static str, work: F) -> Result<T, StoreError>
    where
        F: for<'c> FnOnce(&'c Session) -> BoxFuture<'c, Result<T, Failure>> + Send,
    {
        self.call_on(&self.pool, doing, work).await
    }

    /// The same on the connection that nobody else waits for.
    pub(super) async fn call_first<T, F>(
        &self,
        doing: &'static str,
        work: F,
    ) -> Result<T, StoreError>
    where
        F: for<'c> FnOnce(&'c Session) -> BoxFuture<'c, Result<T, Failure>> + Send,
    {
        self.call_on(&self.reserved, doing, work).await
    }

    async fn call_on<T, F>(
        &self,
        pool: &Pool<Manager>,
        doing: &'static str,
        work: F,
    ) -> Result<T, StoreError>
    where
        F: for<'c> FnOnce(&'c Session) -> BoxFuture<'c, Result<T, Failure>> + Send,
    {
        let all = async {
            let session = pool.get().await.map_err(|error| match error {
                PoolError::Backend(error) => Failure::Database(error),
                other => Failure::Other(other.to_string()),
            })?;
            let mut lent = Lent { session: Some(session), abandoned: &self.abandoned };
            let Some(session) = &lent.session else {
                return Err(Failure::Other("a connection is not there".into()));
            };
            let result = work(session).await;
            if result.as_ref().err().is_none_or(Failure::is_answer) {
                drop(lent.session.take());
            }
            result
        };
        let result = within(all).await;
        result.map_err(|failure| failure.error(doing, &self.store))
    }

    /// Ends what was asked for and given up, so that it does not happen after this: a server that was
    /// stopped goes on with what it had read, and with what waits in its sockets.
    pub(super) async fn settle(&self) -> Result<(), StoreError> {
        let abandoned = || self.abandoned.lock().unwrap_or_else(PoisonError::into_inner);
        let backends = abandoned().clone();
        if backends.is_empty() {
            return Ok(());
        }
        let (pids, starts): (Vec<_>, Vec<_>) = backends.iter().copied().unzip();
        self.call("settling calls without an answer at", move |session| {
            Box::pin(async move {
                let end =
                    session.prepared(concat!("SELECT pg_terminate_backend(a.pid)", of!())).await?;
                let left = session.prepared(concat!("SELECT", of!())).await?;
                // It ends with the call's time.
                while !session.query(&left, &[&pids, &starts]).await?.is_empty() {
                    session.query(&end, &[&pids, &starts]).await?;
                    sleep(ENDING).await;
                }
                Ok(())
            })
        })
        .await?;
        abandoned().retain(|backend| !backends.contains(backend));
        Ok(())
    }
}

/// Ends it after [`CALL`].
pub(super) async fn within<T>(
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    timeout(CALL, work).await.unwrap_or(Err(Failure::Slow))
}
