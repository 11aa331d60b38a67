//! Connections of clients: TCP, and TLS on it where the URL says so.
//!
//! The certificate must be for the host of the URL. Where a name stands for several servers and one of
//! them is meant, by its address, the URL is `https://NAME@ADDRESS:PORT`: the connection goes to the
//! address, and the certificate must be for the name. One string says both, so that a pool keeps such
//! servers apart, and whoever recorded one can come back to it without asking a name server.

use std::{
    error::Error as StdError,
    future::Future,
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::http::{Uri, uri::Authority};
use hyper_util::{
    client::legacy::connect::{Connected, Connection, HttpConnector},
    rt::TokioIo,
};
use rustls::{
    CertificateError, InvalidMessage,
    pki_types::{ServerName, UnixTime},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::client::TlsStream;
use tower::Service;

use super::ClientTls;

/// How often a connection that is silent is looked after, so that one whose other side vanished ends.
const KEEPALIVE: Duration = Duration::from_secs(15);

/// Makes connections for an HTTP client.
#[derive(Clone, Debug)]
pub struct Connector {
    tcp: HttpConnector,
    tls: Option<ClientTls>,
    patience: Duration,
}

impl Connector {
    /// With so much time for each of the two, the connection and the handshake on it. Without `tls`
    /// there is no `https://`.
    pub fn new(tls: Option<ClientTls>, patience: Duration) -> Self {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_connect_timeout(Some(patience));
        tcp.set_nodelay(true);
        tcp.set_keepalive(Some(KEEPALIVE));
        Self { tcp, tls, patience }
    }
}

/// The server showed no certificate that is trusted, or speaks no TLS. To try again changes nothing.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Untrusted(String);

type Fault = Box<dyn StdError + Send + Sync>;

impl Service<Uri> for Connector {
    type Response = TokioIo<Stream>;
    type Error = Fault;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Fault>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        Poll::Ready(ready!(self.tcp.poll_ready(cx)).map_err(Into::into))
    }

    fn call(&mut self, url: Uri) -> Self::Future {
        let https = url.scheme_str() == Some("https");
        let name = server_name(&url);
        let connecting = self.tcp.call(url);
        let (tls, patience) = (self.tls.clone(), self.patience);
        Box::pin(async move {
            if !https {
                return Ok(TokioIo::new(Stream::Plain(connecting.await?.into_inner())));
            }
            let tls = tls.ok_or_else(|| Untrusted("TLS was not set up here".into()))?;
            let name = name?;
            let tcp = connecting.await?.into_inner();
            let handshake = timeout(patience, tls.connector().connect(name.clone(), tcp)).await;
            match handshake {
                Ok(Ok(stream)) => Ok(TokioIo::new(Stream::Tls(Box::new(stream)))),
                Ok(Err(error)) => Err(explain(error, &name)),
                Err(_) => {
                    let why = format!("no TLS handshake within {} s", patience.as_secs());
                    Err(io::Error::new(io::ErrorKind::TimedOut, why).into())
                }
            }
        })
    }
}

/// For whom the certificate must be.
fn server_name(url: &Uri) -> Result<ServerName<'static>, Untrusted> {
    let authority = url.authority().map_or("", Authority::as_str);
    let host = match authority.rsplit_once('@') {
        Some((name, _)) => name,
        None => url.host().unwrap_or_default().trim_matches(['[', ']']),
    };
    ServerName::try_from(host.to_owned())
        .map_err(|_| Untrusted(format!("no certificate can be for {host:?}")))
}

/// Says why a handshake failed, and what to do. It has no source, so that whoever looks for the
/// innermost cause finds these words.
fn explain(error: io::Error, name: &ServerName<'_>) -> Fault {
    let name = name.to_str();
    let Some(tls) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) else {
        if error.kind() == io::ErrorKind::UnexpectedEof {
            let why = "the connection was closed in the middle of the TLS handshake";
            return io::Error::new(error.kind(), why).into();
        }
        return error.into();
    };
    let why = match tls {
        rustls::Error::InvalidCertificate(why) => {
            format!("the certificate of {name} {}", fault(why))
        }
        rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType) => {
            "it does not speak TLS; write http://, or start it with --tls-cert and --tls-key".into()
        }
        other => format!("the TLS handshake failed: {other}"),
    };
    Untrusted(why).into()
}

/// What is wrong with a certificate.
fn fault(error: &CertificateError) -> String {
    match error {
        CertificateError::UnknownIssuer => "comes from an authority that is not trusted here \
             (unknown issuer); name the file with the authority's certificate by --ca-file"
            .into(),
        CertificateError::BadSignature => {
            "is not signed by the authority of that name that is trusted \
             here; name the file with the right authority's certificate by --ca-file"
                .into()
        }
        CertificateError::ExpiredContext { not_after, .. } => format!(
            "expired {}; renew it, or mend the clock of this machine",
            ago(*not_after).map_or_else(String::new, |ago| format!("{ago} ago"))
        ),
        CertificateError::NotValidYetContext { .. } => {
            "is not valid yet; mend the clock of this machine, or that of its authority".into()
        }
        CertificateError::NotValidForNameContext { presented, .. } if presented.is_empty() => {
            "names nobody (it has no subjectAltName); make one that names this host".into()
        }
        CertificateError::NotValidForNameContext { presented, .. } => format!(
            "is for another name ({}); use that name, or a certificate that has this one too",
            presented.iter().map(|name| bare(name)).collect::<Vec<_>>().join(", ")
        ),
        CertificateError::Other(other) if other.to_string().contains("CaUsedAsEndEntity") => {
            "is that of an authority (CA:TRUE), and a server needs one of its own; \
             have the authority sign one"
                .into()
        }
        other => format!("is not trusted: {other}"),
    }
}

/// A name as it stands in a certificate, out of rustls's `DnsName("localhost")`.
fn bare(presented: &str) -> &str {
    let inner = presented.split_once('(').map_or(presented, |(_, inner)| inner);
    inner.trim_end_matches(')').trim_matches('"')
}

/// How long ago that was, in whole days or hours.
fn ago(then: UnixTime) -> Option<String> {
    let hours = UnixTime::now().as_secs().checked_sub(then.as_secs())? / 3600;
    Some(if hours < 48 { format!("{hours} h") } else { format!("{} days", hours / 24) })
}

/// A connection in clear or by TLS.
#[derive(Debug)]
pub enum Stream {
    /// `http://`
    Plain(TcpStream),
    /// `https://`
    Tls(Box<TlsStream<TcpStream>>),
}

impl Connection for Stream {
    fn connected(&self) -> Connected {
        match self {
            Self::Plain(tcp) => tcp.connected(),
            Self::Tls(tls) => tls.get_ref().0.connected(),
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_read(cx, buf),
            Self::Tls(tls) => Pin::new(tls).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_write(cx, buf),
            Self::Tls(tls) => Pin::new(tls).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_write_vectored(cx, bufs),
            Self::Tls(tls) => Pin::new(tls).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(tcp) => tcp.is_write_vectored(),
            Self::Tls(tls) => tls.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_flush(cx),
            Self::Tls(tls) => Pin::new(tls).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Self::Tls(tls) => Pin::new(tls).poll_shutdown(cx),
        }
    }
}
