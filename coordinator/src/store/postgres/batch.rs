//! Many new jobs at once: like `write`, one statement, and so all of them or none.

use std::collections::HashMap;

use tokio_postgres::types::ToSql;
use uuid::Uuid;

use super::{
    super::{Epoch, Key, Submitted, record::New},
    connect::{Failure, Session},
    lease::{number, term},
};

/// The first name of a key decides who makes its jobs: of two at once the second waits for the first,
/// and then finds it taken.
const SUBMIT: &str = concat!(
    term!(),
    ", batch AS (
        SELECT * FROM unnest($2::uuid[], $3::bigint[], $4::bytea[], $5::bigint[], $6::bytea[], $7::bytea[])
            WITH ORDINALITY AS b (job_id, attempt, record, size, stdin, key, number)
    ), first AS (
        INSERT INTO keys SELECT $8::bytea, key, $9::bytea, job_id FROM batch
        WHERE number = 1 AND $9::bytea IS NOT NULL
            AND NOT EXISTS (SELECT FROM keys WHERE tenant = $8::bytea AND key = ANY ($7::bytea[]))
        ON CONFLICT DO NOTHING RETURNING job_id
    ), others AS (
        INSERT INTO keys SELECT $8::bytea, key, $9::bytea, job_id FROM batch
        WHERE number > 1 AND EXISTS (SELECT FROM first)
    ), job AS (
        INSERT INTO jobs (job_id, status, attempt, record, size)
        SELECT job_id, 'pending', attempt, record, size FROM batch
        WHERE $9::bytea IS NULL OR EXISTS (SELECT FROM first) RETURNING job_id
    ), input AS (
        INSERT INTO inputs SELECT job_id, stdin FROM batch JOIN job USING (job_id) WHERE stdin IS NOT NULL
    ), labelled AS (
        INSERT INTO labels SELECT name, value, job_id
        FROM unnest($10::bytea[], $11::bytea[], $12::uuid[]) AS l (name, value, job_id)
        JOIN job USING (job_id)
    ), told AS (
        INSERT INTO inbox (kind, job_id)
        SELECT 'job', job_id FROM batch JOIN job USING (job_id) WHERE NOT EXISTS (SELECT FROM term)
        ORDER BY number ON CONFLICT DO NOTHING
    )
    SELECT EXISTS (SELECT FROM job), EXISTS (SELECT FROM term)"
);

/// See [`Store::submit_all`](super::super::Store::submit_all).
pub(super) async fn submit(
    session: &Session,
    all: &[New],
    key: Option<&Key>,
    epoch: Option<Epoch>,
) -> Result<Submitted<Vec<Uuid>>, Failure> {
    let statement = session.prepared(SUBMIT).await?;
    let names = key.map(|key| key.names(all.len())).unwrap_or_default();
    let names: Vec<_> = names.iter().map(String::as_bytes).collect();
    let ids: Vec<_> = all.iter().map(|new| new.id).collect();
    let attempts: Vec<_> = all.iter().map(|new| i64::from(new.attempt)).collect();
    let records: Vec<_> = all.iter().map(|new| new.record.as_bytes()).collect();
    let sizes: Vec<_> = all.iter().map(New::size).collect();
    let inputs: Vec<_> = all.iter().map(|new| new.stdin.as_deref().map(str::as_bytes)).collect();
    let labels = || all.iter().flat_map(|new| new.labels.iter().map(|label| (new.id, label)));
    let labelled: Vec<_> = labels().map(|(id, _)| id).collect();
    let (label_names, label_values): (Vec<_>, Vec<_>) =
        labels().map(|(_, (name, value))| (name.as_bytes(), value.as_bytes())).unzip();
    let (epoch, tenant) = (epoch.map(number), key.map(|key| key.tenant.as_bytes()));
    let digest = key.map(|key| &key.digest[..]);
    let values: [&(dyn ToSql + Sync); 12] = [
        &epoch,
        &ids,
        &attempts,
        &records,
        &sizes,
        &inputs,
        &names,
        &tenant,
        &digest,
        &label_names,
        &label_values,
        &labelled,
    ];
    // It ends with the call's time: each further round means that the key came and went.
    loop {
        let row = session.query_one(&statement, &values).await?;
        if row.try_get(0)? {
            return Ok(Submitted::New { taken: row.try_get(1)? });
        }
        let Some(key) = key else {
            return Err(Failure::Other("jobs without a key were not written".into()));
        };
        // A statement of its own sees what the one before had to wait for.
        let known = made_by(session, key, &names).await?;
        if known.iter().any(|(_, digest)| *digest != key.digest) {
            return Ok(Submitted::Other);
        }
        if !known.is_empty() {
            return Ok(Submitted::Same(known.into_iter().map(|(job, _)| job).collect()));
        }
    }
}

/// The jobs that these names made, in their order, and the digests of their requests.
async fn made_by(
    session: &Session,
    key: &Key,
    names: &[&[u8]],
) -> Result<Vec<(Uuid, Vec<u8>)>, Failure> {
    let sql = "SELECT key, job_id, digest FROM keys WHERE tenant = $1 AND key = ANY ($2)";
    let statement = session.prepared(sql).await?;
    let mut found = HashMap::new();
    for row in session.query(&statement, &[&key.tenant.as_bytes(), &names]).await? {
        let name: Vec<u8> = row.try_get(0)?;
        found.insert(name, (row.try_get(1)?, row.try_get(2)?));
    }
    Ok(names.iter().filter_map(|name| found.remove(*name)).collect())
}
