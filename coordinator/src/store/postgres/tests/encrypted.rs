//! The way to the database, encrypted: all of it, with a server that proves who it is, or none.

use std::{fs, path::PathBuf};

use cloister_web::ClientTls;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

use super::*;

/// An authority, and what it signs.
struct Office {
    authority: Issuer<'static, KeyPair>,
    file: PathBuf,
}

impl Office {
    /// Its certificate is in a file in the server's folder, which goes with the server.
    fn new(server: &Server) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap();
        let file = server.folder().join(format!("{}.pem", Uuid::new_v4()));
        fs::write(&file, certificate.pem()).unwrap();
        Self { authority: Issuer::new(params, key), file }
    }

    /// A certificate for this host, and its key.
    fn sign(&self, host: &str) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new([host.to_owned()]).unwrap();
        (params.signed_by(&key, &self.authority).unwrap().pem(), key.serialize_pem())
    }

    fn trusted(&self) -> ClientTls {
        ClientTls::load(Some(&self.file)).unwrap()
    }
}

async fn refused(url: &str, tls: &ClientTls) -> String {
    Postgres::open(url, Some(tls)).await.err().expect("it must not be opened").to_string()
}

#[tokio::test]
async fn the_way_is_encrypted_or_not_taken() {
    let server = Server::start();
    let office = Office::new(&server);
    let url = server.database();
    let asking = |mode: &str| format!("{url}?sslmode={mode}");
    // A server that can't, as one is that somebody in between pretends to be.
    let error = refused(&asking("require"), &office.trusted()).await;
    assert!(error.contains("TLS"), "{error}");

    let (certificate, key) = office.sign("127.0.0.1");
    server.encrypt(&certificate, &key);
    let store = Postgres::open(&asking("verify-full"), Some(&office.trusted())).await.unwrap();
    let epoch = store.lead(candidate("me"), LONG).await.unwrap().epoch;
    store.submit(job(), None, Some(epoch)).await.unwrap();
    // The listener's connection as well, which is made by itself.
    let database = url.rsplit_once('/').unwrap().1;
    let count = format!(
        "SELECT count(*) FILTER (WHERE ssl), count(*) FILTER (WHERE NOT ssl), \
            count(*) FILTER (WHERE query LIKE 'LISTEN%') \
         FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE datname = '{database}'"
    );
    let deadline = Instant::now() + connect::CALL;
    loop {
        let counted = server.admin("postgres", &count);
        let all: Vec<usize> = counted.split('|').map(|n| n.parse().unwrap()).collect();
        assert_eq!(all[1], 0, "{counted}");
        if all[0] >= 3 && all[2] == 1 {
            break;
        }
        assert!(Instant::now() < deadline, "{counted}");
        tokio::task::yield_now().await;
    }
    drop(store);

    let stranger = Office::new(&server);
    let error = refused(&asking("verify-full"), &stranger.trusted()).await;
    assert!(error.contains("invalid peer certificate") && error.contains("--ca-file"), "{error}");
    let elsewhere = asking("require").replace("127.0.0.1", "localhost");
    let error = refused(&elsewhere, &office.trusted()).await;
    assert!(error.contains("not valid for name") && !error.contains(server.password()), "{error}");
    // Nobody to trust is no reason to do without.
    let error = Postgres::open(&asking("require"), None).await.err().unwrap().to_string();
    assert!(error.contains("nobody is trusted"), "{error}");
}
