//! Process that measures, order after order.

use std::process::ExitCode;

use xtask_load::answer_each;

use crate::{PickOrder, Reading, Subject, measure::measure};

/// Takes orders from standard input until it ends. `make` puts a strategy and so many workers
/// together; they are kept for the orders to come.
pub fn serve(make: impl Fn(&str, usize) -> Result<Box<dyn Subject>, String>) -> ExitCode {
    let mut made = Vec::new();
    answer_each(|order| Ok(measure_order(&mut made, &order, &make)?))
}

/// Strategies that have been made, of one number of workers at a time.
type Made = Vec<(String, usize, Box<dyn Subject>)>;

fn measure_order(
    made: &mut Made,
    order: &PickOrder,
    make: impl Fn(&str, usize) -> Result<Box<dyn Subject>, String>,
) -> Result<Reading, String> {
    made.retain(|it| it.1 == order.workers);
    if !made.iter().any(|it| it.0 == order.strategy) {
        let subject = make(&order.strategy, order.workers)?;
        made.push((order.strategy.clone(), order.workers, subject));
    }
    let subject = made.iter().find(|it| it.0 == order.strategy);
    let subject = subject.expect("it was made if it was not there");
    measure(&*subject.2, order.work, order.threads, order.window)
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, ops::Range, time::Duration};

    use super::*;
    use crate::Work;

    struct Nothing;

    impl Subject for Nothing {
        fn batch(&self, _work: Work, _calls: Range<u64>, _alone: bool) -> Result<(), String> {
            Ok(())
        }
    }

    #[test]
    fn subjects_are_made_once_and_kept_while_the_number_of_workers_is_the_same() {
        let calls = Cell::new(0);
        let make = |name: &str, _workers| {
            calls.set(calls.get() + 1);
            match name {
                "one" => Ok(Box::new(Nothing) as Box<dyn Subject>),
                other => Err(format!("no {other}")),
            }
        };
        let mut made = Vec::new();
        for (strategy, workers, calls_after, measured) in [
            ("one", 3, 1, Ok(())),
            ("one", 3, 1, Ok(())),
            ("none", 3, 2, Err("no none".to_owned())),
            ("one", 30, 3, Ok(())),
        ] {
            let order = PickOrder {
                strategy: strategy.to_owned(),
                workers,
                threads: 1,
                work: Work::Pick,
                window: Duration::from_millis(1),
            };
            let reading = measure_order(&mut made, &order, make);
            assert_eq!((calls.get(), reading.map(drop)), (calls_after, measured));
        }
    }
}
