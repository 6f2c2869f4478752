//! Process that measures, order after order.

use std::{
    io::{self, BufRead, Write},
    process::ExitCode,
};

use crate::{PickOrder, Reading, Subject, measure::measure};

/// Takes orders from standard input until it ends. `make` puts a strategy and so many workers
/// together; they are kept for the orders to come.
pub fn serve(make: impl Fn(&str, usize) -> Result<Box<dyn Subject>, String>) -> ExitCode {
    let served = answer_all(io::stdin().lock(), io::stdout().lock(), make);
    if let Err(error) = served {
        eprintln!("error: {error}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

fn answer_all(
    orders: impl BufRead,
    mut answers: impl Write,
    make: impl Fn(&str, usize) -> Result<Box<dyn Subject>, String>,
) -> io::Result<()> {
    // Of one number of workers at a time.
    let mut made: Vec<(String, usize, Box<dyn Subject>)> = Vec::new();
    for line in orders.lines() {
        let order: PickOrder = serde_json::from_str(&line?)?;
        made.retain(|it| it.1 == order.workers);
        let answer = measure_order(&mut made, &order, &make);
        serde_json::to_writer(&mut answers, &answer)?;
        answers.write_all(b"\n")?;
        answers.flush()?;
    }
    Ok(())
}

fn measure_order(
    made: &mut Vec<(String, usize, Box<dyn Subject>)>,
    order: &PickOrder,
    make: impl Fn(&str, usize) -> Result<Box<dyn Subject>, String>,
) -> Result<Reading, String> {
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
    fn subjects_are_made_once_and_errors_are_replies() {
        let order = |strategy: &str, workers| {
            let order = PickOrder {
                strategy: strategy.to_owned(),
                workers,
                threads: 1,
                work: Work::Pick,
                window: Duration::from_millis(1),
            };
            serde_json::to_string(&order).unwrap() + "\n"
        };
        let orders = [
            order("one", 3),
            order("one", 3),
            order("none", 3),
            order("one", 30),
        ];
        let made = Cell::new(0);
        let make = |name: &str, _workers| {
            made.set(made.get() + 1);
            match name {
                "one" => Ok(Box::new(Nothing) as Box<dyn Subject>),
                other => Err(format!("no {other}")),
            }
        };
        let mut answers = Vec::new();
        answer_all(orders.concat().as_bytes(), &mut answers, make).unwrap();
        let answers = String::from_utf8(answers).unwrap();
        let reading = |line| serde_json::from_str(line).unwrap();
        let readings: Vec<Result<Reading, String>> = answers.lines().map(reading).collect();
        assert_eq!(made.get(), 3);
        assert!(readings[0].is_ok() && readings[1].is_ok() && readings[3].is_ok());
        assert_eq!(readings[2], Err("no none".to_owned()));
    }
}
