//! `bench rpc --connections N`: memory of idle connections.

use xtask_load::Job;

use super::{
    mode::{Column, Mode, Panels},
    rows::Row,
    subjects::{OURS, QUINN},
};

pub(crate) const MODE: Mode = Mode {
    subjects: &[OURS, QUINN],
    prepare: |options, setup| {
        let count = options.connections();
        println!("{count} idle connections, opened one after the other");
        setup
    },
    groups: |options, subjects| {
        let count = options.connections();
        let row = |subject| {
            let load = options.measuring.load(1024, 1);
            let cell = format!("{count} connections");
            Row::new(subject, cell, load, Job::Connections { count }).with("connections", count)
        };
        vec![subjects.iter().copied().map(row).collect()]
    },
    table: |_| "RSS per connection".to_owned(),
    columns: &[
        Column::Number("server KiB", |row| Some(server_bytes(row)? / 1024.0)),
        Column::Number("client KiB", |row| Some(client_bytes(row)? / 1024.0)),
        Column::Number("open µs", open_us),
    ],
    fields: &[&[
        ("server_bytes_per_connection", server_bytes),
        ("client_bytes_per_connection", client_bytes),
        ("open_us", open_us),
    ]],
    figure: |_| "KiB of resident memory per idle connection (shorter is better)".to_owned(),
    bars: &[
        (Panels::One("server"), |row| {
            Some(server_bytes(row)? / 1024.0)
        }),
        (Panels::One("client"), |row| {
            Some(client_bytes(row)? / 1024.0)
        }),
    ],
    ..Mode::CALLS
};

fn server_bytes(row: &Row) -> Option<f64> {
    row.median(|it| it.server_rss_bytes as f64 / it.count as f64)
}

fn client_bytes(row: &Row) -> Option<f64> {
    row.median(|it| it.client_rss_bytes as f64 / it.count as f64)
}

/// Time to open one, each after the other.
fn open_us(row: &Row) -> Option<f64> {
    row.median(|it| it.seconds * 1e6 / it.count as f64)
}

#[cfg(test)]
mod tests {
    use xtask_load::Report;

    use super::*;
    use crate::bench::tests::row;

    #[test]
    fn figures_are_of_one_connection() {
        let mut row = row(OURS, (1024, 1), 1, 1.0);
        row.reports = [100, 409_600, 1_000_000]
            .map(|server_rss_bytes| Report {
                count: 100,
                client_rss_bytes: 204_800,
                server_rss_bytes,
                seconds: 0.1,
                ..Report::default()
            })
            .to_vec();
        assert_eq!(server_bytes(&row), Some(4096.0));
        assert_eq!(client_bytes(&row), Some(2048.0));
        assert_eq!(open_us(&row).unwrap().round(), 1000.0);
        assert!(MODE.report(&[row]).contains("4.00"));
    }
}
