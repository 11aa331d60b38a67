//! TLS as both ends meet it: who is let in, who is trusted, and what those hear who are not.

use std::{
    env, fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use axum::http::Uri;
use cloister_web::{
    BodyLimits, ClientTls, Connector, Reload, ServerLimits, ServerTls, Stream, Untrusted,
};
use hyper_util::rt::TokioIo;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd,
};
use rustls::{
    ClientConfig, RootCertStore, SupportedProtocolVersion,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tower::Service as _;

use crate::service::{PATIENCE, Service, read_answer, start_over};

/// A folder with an authority, and certificates that it signed.
struct Office {
    folder: PathBuf,
    authority: CertifiedIssuer<'static, KeyPair>,
}

impl Office {
    fn new() -> Self {
        Self::called("An authority")
    }

    fn called(name: &str) -> Self {
        let folder = env::temp_dir().join(format!("cloister-tls-{}", uuid::Uuid::new_v4()));
        fs::create_dir(&folder).unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let authority = CertifiedIssuer::self_signed(params, key).unwrap();
        fs::write(folder.join("ca.pem"), authority.pem()).unwrap();
        Self { folder, authority }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// A new certificate for these names, in place of the one before.
    fn sign(&self, names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> ServerTls {
        self.write(names, change);
        ServerTls::load(&self.path("cert.pem"), &self.path("key.pem")).unwrap()
    }

    fn write(&self, names: &[&str], change: impl FnOnce(&mut CertificateParams)) {
        let names: Vec<String> = names.iter().map(|name| (*name).into()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.authority).unwrap();
        fs::write(self.path("cert.pem"), certificate.pem()).unwrap();
        fs::write(self.path("key.pem"), key.serialize_pem()).unwrap();
    }

    fn trusting(&self) -> Connector {
        trusting(&self.path("ca.pem"))
    }
}

impl Drop for Office {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn trusting(authorities: &Path) -> Connector {
    Connector::new(Some(ClientTls::load(Some(authorities)).unwrap()), PATIENCE)
}

fn url(service: &Service) -> String {
    format!("https://localhost:{}", service.address.port())
}

fn start(tls: ServerTls) -> Service {
    start_over(Some(tls), BodyLimits::default(), ServerLimits::default())
}

async fn connect(mut connector: Connector, url: &str) -> Result<TokioIo<Stream>, String> {
    let connected = timeout(PATIENCE, connector.call(url.parse::<Uri>().unwrap()));
    connected.await.expect("an answer in time").map_err(|error| {
        assert!(error.is::<Untrusted>(), "{error}");
        error.to_string()
    })
}

/// GET over a connection that is there.
async fn health(stream: TokioIo<Stream>) -> u16 {
    let mut stream = stream.into_inner();
    let request = b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    stream.write_all(request).await.unwrap();
    read_answer(&mut stream).await.status
}

/// A connection of rustls's own, to see what the service shows and speaks.
async fn observe(
    office: &Office,
    service: &Service,
    versions: &[&'static SupportedProtocolVersion],
) -> TlsStream<TcpStream> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(office.path("ca.pem")).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider);
    let config = config.with_protocol_versions(versions).unwrap().with_root_certificates(roots);
    let mut config = config.with_no_client_auth();
    config.alpn_protocols = vec![b"h2".into(), b"http/1.1".into()];
    let connector = TlsConnector::from(Arc::new(config));
    let name = ServerName::try_from("localhost").unwrap();
    connector.connect(name, service.connect().await).await.unwrap()
}

fn shown(stream: &TlsStream<TcpStream>) -> CertificateDer<'static> {
    stream.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned()
}

#[tokio::test]
async fn both_versions_speak_http_1_1_and_nothing_older_is_spoken() {
    let office = Office::new();
    let service = start(office.sign(&["localhost"], |_| ()));
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let mut stream = observe(&office, &service, &[version]).await;
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
        let request = b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        stream.write_all(request).await.unwrap();
        assert_eq!(read_answer(&mut stream).await.body, "fine");
    }
}

#[tokio::test]
async fn the_name_counts_also_where_an_address_is_called() {
    let office = Office::new();
    let port = |service: &Service| service.address.port();
    let service = start(office.sign(&["runner.example", "127.0.0.1"], |_| ()));
    let urls = ["https://runner.example@127.0.0.1", "https://127.0.0.1"];
    for url in urls.map(|url| format!("{url}:{}", port(&service))) {
        let stream = connect(office.trusting(), &url).await.unwrap();
        // Whatever it is called, this service knows itself as localhost.
        assert_eq!(health(stream).await, 200, "{url}");
    }
    let service = start(office.sign(&["runner.example"], |_| ()));
    let by_name = format!("https://runner.example@127.0.0.1:{}", port(&service));
    assert!(connect(office.trusting(), &by_name).await.is_ok());
    for url in ["https://127.0.0.1", "https://localhost", "https://other.example@127.0.0.1"] {
        let url = format!("{url}:{}", port(&service));
        let error = connect(office.trusting(), &url).await.unwrap_err();
        assert!(error.contains("another name (runner.example)"), "{error}");
    }
}

#[tokio::test]
async fn who_is_not_trusted_is_told_why_and_what_to_do() {
    let (office, other) = (Office::new(), Office::called("Another"));
    let service = start(office.sign(&["localhost"], |_| ()));
    let error = connect(other.trusting(), &url(&service)).await.unwrap_err();
    assert!(error.contains("unknown issuer") && error.contains("--ca-file"), "{error}");
    // One that took the authority's name.
    let error = connect(Office::new().trusting(), &url(&service)).await.unwrap_err();
    assert!(error.contains("not signed by") && error.contains("--ca-file"), "{error}");

    let past = |params: &mut CertificateParams| {
        params.not_before = date_time_ymd(2001, 1, 1);
        params.not_after = date_time_ymd(2001, 2, 1);
    };
    let service = start(office.sign(&["localhost"], past));
    let error = connect(office.trusting(), &url(&service)).await.unwrap_err();
    assert!(error.contains("expired") && error.contains("days ago"), "{error}");

    let service =
        start(office.sign(&["localhost"], |params| params.not_before = date_time_ymd(2901, 1, 1)));
    let error = connect(office.trusting(), &url(&service)).await.unwrap_err();
    assert!(error.contains("not valid yet") && error.contains("clock"), "{error}");

    let authority = |params: &mut CertificateParams| {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    };
    let service = start(office.sign(&["localhost"], authority));
    let error = connect(office.trusting(), &url(&service)).await.unwrap_err();
    assert!(error.contains("CA:TRUE"), "{error}");

    let plain = crate::service::start_default();
    let error = connect(office.trusting(), &url(&plain)).await.unwrap_err();
    assert!(error.contains("does not speak TLS") && error.contains("http://"), "{error}");
}

#[tokio::test]
async fn a_request_in_clear_is_told_to_come_by_tls() {
    let office = Office::new();
    let service = start(office.sign(&["localhost"], |_| ()));
    let answer = service.get("/health").await;
    let problem = answer.problem();
    assert_eq!(problem.status, 400);
    assert!(problem.detail.contains("https://"), "{}", problem.detail);
    let answer = service.talk(service.post_head(1 << 20)).await;
    assert_eq!(answer.status, 400, "and it is not waited for a body");
}

#[tokio::test]
async fn what_is_no_handshake_is_hung_up_on() {
    let office = Office::new();
    let service = start(office.sign(&["localhost"], |_| ()));
    for noise in [&b"\x16\x03\x01\xff\xff\x01\x00"[..], b"\x00\x01\x02", b"\xff\xff\xff\xff\xff"] {
        let mut stream = service.connect().await;
        stream.write_all(noise).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut rest = Vec::new();
        let read = timeout(PATIENCE, stream.read_to_end(&mut rest));
        // An alert, or nothing; a reset is no worse to somebody who speaks another language.
        let _ = read.await.expect("hung up in time");
        assert!(rest.len() < 64, "{rest:?}");
    }
    let stream = connect(office.trusting(), &url(&service)).await.unwrap();
    assert_eq!(health(stream).await, 200);
}

#[tokio::test]
async fn a_handshake_that_stalls_holds_up_nobody_and_gives_way() {
    let office = Office::new();
    let handshake = PATIENCE * 2;
    let limits = ServerLimits { connections: 2, handshake, ..ServerLimits::default() };
    let tls = office.sign(&["localhost"], |_| ());
    let service = start_over(Some(tls), BodyLimits::default(), limits);
    let url = url(&service);
    // One says nothing, the other begins.
    let mut silent = service.connect().await;
    let stream = connect(office.trusting(), &url).await.unwrap();
    assert_eq!(health(stream).await, 200, "beside the silent one");
    let mut begun = service.connect().await;
    begun.write_all(b"\x16\x03\x01").await.unwrap();
    let stream = connect(office.trusting(), &url).await.unwrap();
    assert_eq!(health(stream).await, 200, "in the place of one that waited");
    let closed = timeout(PATIENCE, silent.read(&mut [0])).await.expect("closed in time");
    assert_eq!(closed.unwrap_or(0), 0);
}

#[tokio::test]
async fn a_handshake_has_its_time() {
    let office = Office::new();
    let limits = ServerLimits { handshake: Duration::from_millis(100), ..ServerLimits::default() };
    let tls = office.sign(&["localhost"], |_| ());
    let service = start_over(Some(tls), BodyLimits::default(), limits);
    for begun in [&b""[..], b"\x16", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"] {
        let mut stream = service.connect().await;
        stream.write_all(begun).await.unwrap();
        let mut rest = Vec::new();
        timeout(PATIENCE, stream.read_to_end(&mut rest)).await.expect("hung up in time").unwrap();
    }
}

#[tokio::test]
async fn a_handshake_does_not_hold_up_the_end() {
    let office = Office::new();
    let patient = Duration::from_secs(3600);
    let limits = ServerLimits { handshake: patient, close: patient, ..ServerLimits::default() };
    let tls = office.sign(&["localhost"], |_| ());
    let service = start_over(Some(tls), BodyLimits::default(), limits);
    let _silent = service.connect().await;
    let url = url(&service);
    // Accepted after the silent one.
    assert_eq!(health(connect(office.trusting(), &url).await.unwrap()).await, 200);
    service.stop.notify_one();
    timeout(PATIENCE, service.task).await.expect("it ends").unwrap().unwrap();
}

#[tokio::test]
async fn a_new_certificate_is_shown_to_new_connections_and_the_old_ones_live() {
    let office = Office::new();
    let tls = office.sign(&["localhost"], |_| ());
    let service = start(tls.clone());
    let both = rustls::ALL_VERSIONS;
    let mut old = observe(&office, &service, both).await;
    let first = shown(&old);
    office.write(&["localhost"], |_| ());
    assert_eq!(shown(&observe(&office, &service, both).await), first, "not before it is told");
    assert!(tls.reload().unwrap());
    assert_ne!(shown(&observe(&office, &service, both).await), first);
    let request = b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    old.write_all(request).await.unwrap();
    assert_eq!(read_answer(&mut old).await.body, "fine");
}

#[tokio::test]
async fn a_bad_certificate_or_key_changes_nothing() {
    let office = Office::new();
    let tls = office.sign(&["localhost"], |_| ());
    let service = start(tls.clone());
    let (cert, key) = (office.path("cert.pem"), office.path("key.pem"));
    let (good_cert, good_key) = (fs::read(&cert).unwrap(), fs::read(&key).unwrap());
    let foreign = KeyPair::generate().unwrap().serialize_pem();
    for (path, content, reason) in [
        (&key, foreign.as_str(), "another certificate"),
        (&key, "", "no key"),
        (&key, "-----BEGIN PRIVATE KEY-----\nsecret!\n", "not PEM"),
        (&cert, "", "no certificate"),
        (&cert, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "cert.pem"),
    ] {
        fs::write(path, content).unwrap();
        let error = tls.reload().unwrap_err().to_string();
        assert!(error.contains(reason) && error.contains("pem"), "{error}");
        assert!(!error.contains("secret"), "{error}");
        fs::write(&cert, &good_cert).unwrap();
        fs::write(&key, &good_key).unwrap();
    }
    fs::remove_file(&key).unwrap();
    assert!(tls.reload().unwrap_err().to_string().contains("No such file"));
    let shown = shown(&observe(&office, &service, rustls::ALL_VERSIONS).await);
    assert_eq!(shown, CertificateDer::from_pem_slice(&good_cert).unwrap());
}

#[tokio::test]
async fn a_client_trusts_others_when_its_file_is_read_again() {
    let (office, other) = (Office::new(), Office::new());
    let service = start(office.sign(&["localhost"], |_| ()));
    let url = url(&service);
    let trusted = other.path("ca.pem");
    let tls = ClientTls::load(Some(&trusted)).unwrap();
    let connector = Connector::new(Some(tls.clone()), PATIENCE);
    assert!(connect(connector.clone(), &url).await.is_err());
    for bad in ["", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
        fs::write(&trusted, bad).unwrap();
        let error = tls.reload().unwrap_err().to_string();
        assert!(error.contains("ca.pem"), "{error}");
    }
    fs::copy(office.path("ca.pem"), &trusted).unwrap();
    assert!(tls.reload().unwrap());
    assert_eq!(health(connect(connector, &url).await.unwrap()).await, 200);
}
