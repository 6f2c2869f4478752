//! `bench rpc --streaming`: items of one stream, each way.

use xtask_load::{Direction, Job};

use super::{
    grid::readable_bytes,
    mode::{Column, Mode},
    options::Options,
    rows::Row,
    subjects::{OURS, Subject},
};

pub(crate) const MODE: Mode = Mode {
    subjects: &[OURS],
    groups,
    table: |_| "one stream".to_owned(),
    columns: &[
        Column::Text("from", |row| match row.job {
            Job::Stream(direction) => sender(direction).to_owned(),
            _ => String::new(),
        }),
        Column::Text("item", |row| readable_bytes(row.load.body_bytes)),
        Column::Number("items/s", Row::per_s),
        Column::Number("MiB/s", Row::bulk_mib_per_s),
    ],
    fields: &[&[
        ("items_per_s", Row::per_s),
        ("mib_per_s", Row::bulk_mib_per_s),
    ]],
    figure: |_| "items per second through one stream".to_owned(),
    ..Mode::CALLS
};

fn groups(options: &Options, subjects: &[Subject]) -> Vec<Vec<Row>> {
    let sizes = match &options.payload[..] {
        [] => &[32, 1 << 10, 64 << 10][..],
        asked => asked,
    };
    let mut groups = Vec::new();
    for (direction, field) in [(Direction::Down, "down"), (Direction::Up, "up")] {
        for item_bytes in sizes {
            let row = |subject: &Subject| {
                let load = options.measuring.load(*item_bytes, 1);
                let (item, sender) = (readable_bytes(*item_bytes), sender(direction));
                let cell = format!("{item} from the {sender}");
                Row::new(*subject, cell, load, Job::Stream(direction))
                    .with("direction", field)
                    .with("item_bytes", *item_bytes)
            };
            groups.push(subjects.iter().map(row).collect());
        }
    }
    groups
}

fn sender(direction: Direction) -> &'static str {
    match direction {
        Direction::Down => "server",
        Direction::Up => "client",
    }
}

#[cfg(test)]
mod tests {
    use xtask_load::Report;

    use super::*;
    use crate::bench::{subjects, tests::json, tests::parse};

    #[test]
    fn rates_are_medians_of_items_and_bytes() {
        let options = parse(&["--payload", "1MiB"]).unwrap();
        let mut row = groups(&options, &subjects::ALL[..1]).concat().remove(1);
        row.reports = [100, 300, 200]
            .map(|count| Report {
                count,
                seconds: 0.5,
                bulk_bytes: count << 20,
                ..Report::default()
            })
            .to_vec();
        let json = json(&row, MODE.fields);
        assert_eq!(json["items_per_s"], 400.0);
        assert_eq!(
            (&json["mib_per_s"], &json["rounds"]),
            (&400.0.into(), &3.into())
        );
        assert_eq!(
            (&json["direction"], &json["item_bytes"]),
            (&"up".into(), &(1 << 20).into())
        );
        assert!(MODE.report(&[row]).contains("client"));
    }
}
