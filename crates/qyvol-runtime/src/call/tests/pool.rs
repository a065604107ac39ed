//! Instances that are kept for more than one call.

use qyvol_types::{Pool as Settings, PoolKind};

use super::super::*;
use super::load;
use crate::{RunLimits, RunSpec};

/// Counts its calls, as long as its instance lives.
const COUNTER: &str = r#"(component
    (core module $m
        (memory (export "memory") 1)
        (global $calls (mut i32) (i32.const 0))
        (func $count (export "count") (result i32)
            (global.set $calls (i32.add (global.get $calls) (i32.const 1)))
            (global.get $calls))
        (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0)))
        (func (export "trap") unreachable)
        (func (export "spin") (loop $more (br $more)))
        (func (export "work") (local $left i32)
            (local.set $left (i32.const 50000000))
            (loop $more
                (local.set $left (i32.sub (local.get $left) (i32.const 1)))
                (br_if $more (local.get $left)))))
    (core instance $i (instantiate $m))
    (func (export "count") (result u32) (canon lift (core func $i "count")))
    (func (export "grow") (param "pages" s32) (result s32) (canon lift (core func $i "grow")))
    (func (export "trap") (canon lift (core func $i "trap")))
    (func (export "spin") (canon lift (core func $i "spin")))
    (func (export "work") (canon lift (core func $i "work"))))"#;

fn settings(kind: PoolKind, instances: u64) -> Settings {
    let is_static = kind == PoolKind::Static;
    Settings {
        kind,
        max: (!is_static).then_some(instances),
        size: is_static.then_some(instances),
        queue: Some(1),
        idle: (kind == PoolKind::Adaptive).then_some(60_000),
        retained: None,
    }
}

/// The functions of a counter, with a pool.
struct Counter {
    functions: Functions,
    caller: Caller,
}

impl Counter {
    fn new(pool: Settings) -> Counter {
        let program = load(&wat::parse_str(COUNTER).unwrap());
        let functions = program.functions();
        let caller = Caller::new(program, RunSpec::default(), CallLimits::default()).unwrap();
        let run = RunLimits {
            memory: Some(10 << 16),
            ..RunLimits::default()
        };
        // A machine with much else to do takes no processor time.
        let limits = CallLimits {
            time: None,
            cpu: Some(Duration::from_secs(1)),
            bytes: None,
        };
        Counter {
            functions,
            caller: caller.for_function(run, limits, Some(&pool)).unwrap(),
        }
    }

    async fn call(&self, function: &str, arguments: &[Val]) -> Result<Option<Val>, CallError> {
        let function = self.functions.find(function).unwrap();
        let answer = self
            .caller
            .answer(&function, Arguments(arguments.to_vec()), None)
            .await?;
        Ok(answer.value)
    }

    async fn count(&self) -> u32 {
        match self.call("count", &[]).await.unwrap() {
            Some(Val::U32(calls)) => calls,
            other => panic!("{other:?}"),
        }
    }

    fn kept(&self) -> usize {
        self.caller.shared.pool.as_ref().unwrap().kept()
    }
}

fn block_on(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.unwrap().block_on(test);
}

// [CALL-014]
#[test]
fn instance_is_kept_until_its_call_does_not_return() {
    block_on(async {
        let counter = Counter::new(settings(PoolKind::Lazy, 1));
        assert_eq!(counter.count().await, 1);
        assert_eq!(counter.count().await, 2);
        for (function, is_expected) in [
            (
                "trap",
                (|error| matches!(error, CallError::Trap(_))) as fn(&CallError) -> bool,
            ),
            ("spin", |error| matches!(error, CallError::CpuTime(_))),
        ] {
            let error = counter.call(function, &[]).await.unwrap_err();
            assert!(is_expected(&error), "{error}");
            assert_eq!(counter.kept(), 0);
            assert_eq!(counter.count().await, 1);
            assert_eq!(counter.count().await, 2);
        }
        // Cancelled by its caller.
        let spinning = counter.call("spin", &[]);
        tokio::time::timeout(Duration::from_millis(20), spinning)
            .await
            .unwrap_err();
        assert_eq!(counter.kept(), 0);
        assert_eq!(counter.count().await, 1);
    });
    block_on(async {
        let program = load(&wat::parse_str(COUNTER).unwrap());
        let functions = program.functions();
        let caller = Caller::new(program, RunSpec::default(), CallLimits::default()).unwrap();
        let count = functions.find("count").unwrap();
        for _ in 0..2 {
            let answer = caller.answer(&count, Arguments(Vec::new()), None).await.unwrap();
            assert_eq!(answer.value, Some(Val::U32(1)));
        }
    });
}

// [CALL-014]
#[test]
fn instance_with_more_memory_than_is_retained_is_not_kept() {
    block_on(async {
        let mut pool = settings(PoolKind::Lazy, 1);
        pool.retained = Some(3 << 16);
        let counter = Counter::new(pool);
        assert_eq!(counter.count().await, 1);
        assert_eq!(counter.call("grow", &[Val::S32(2)]).await.unwrap(), Some(Val::S32(1)));
        assert_eq!(counter.count().await, 2);
        assert_eq!(counter.call("grow", &[Val::S32(1)]).await.unwrap(), Some(Val::S32(3)));
        assert_eq!(counter.count().await, 1);
    });
}

// [CALL-014]
#[test]
fn limits_apply_to_each_call_of_an_instance() {
    block_on(async {
        let counter = Counter::new(settings(PoolKind::Lazy, 1));
        // A refusal in one call is not reported as the cause of a trap in the next.
        assert_eq!(
            counter.call("grow", &[Val::S32(100)]).await.unwrap(),
            Some(Val::S32(-1))
        );
        let error = counter.call("trap", &[]).await.unwrap_err();
        assert!(matches!(error, CallError::Trap(_)), "{error}");
        // A deadline is that of its call: the one of the last call is over.
        let caller::Shared { guests, entry, pool } = &*counter.caller.shared;
        let pool = pool.as_ref().unwrap();
        let over = Some(std::time::Instant::now());
        let (taken, _) = pool.take(guests).await.unwrap();
        let mut instance = pool::Instance::new(guests, over).unwrap();
        instance.start(guests, entry, None).await.unwrap();
        pool.keep(instance, taken);
        assert_eq!(counter.call("work", &[]).await.unwrap(), None);
        assert_eq!((counter.kept(), counter.count().await), (1, 1));
    });
}

// [CALL-015]
#[test]
fn calls_wait_for_an_instance_in_a_queue_with_an_end() {
    block_on(async {
        let counter = Counter::new(settings(PoolKind::Static, 1));
        counter.caller.fill(8).await.unwrap();
        assert_eq!(counter.kept(), 1);
        let (spun, counted, refused) = tokio::join!(
            counter.call("spin", &[]),
            counter.call("count", &[]),
            counter.call("count", &[])
        );
        assert!(matches!(spun, Err(CallError::CpuTime(_))));
        assert_eq!(counted.unwrap(), Some(Val::U32(1)));
        assert!(
            matches!(refused, Err(CallError::Busy { instances: 1, queue: 1 })),
            "{refused:?}"
        );
        assert_eq!(counter.count().await, 2);
    });
}

// [CALL-015]
#[test]
fn no_more_instances_are_made_at_the_start_than_can_be_called() {
    for (kind, made) in [(PoolKind::Static, 2), (PoolKind::Lazy, 0), (PoolKind::Adaptive, 0)] {
        block_on(async {
            let counter = Counter::new(settings(kind, 1024));
            counter.caller.fill(2).await.unwrap();
            assert_eq!(counter.kept(), made);
        });
    }
}

// [CALL-015]
#[test]
fn adaptive_pool_drops_idle_instances() {
    block_on(async {
        let counter = Counter::new(settings(PoolKind::Adaptive, 2));
        assert_eq!(counter.count().await, 1);
        // The task that looks after them begins.
        tokio::task::yield_now().await;
        tokio::time::pause();
        tokio::time::advance(Duration::from_secs(30)).await;
        tokio::task::yield_now().await;
        assert_eq!(counter.kept(), 1);
        // With the clock stopped, this goes straight to the next timer.
        tokio::time::sleep(Duration::from_secs(31)).await;
        assert_eq!(counter.kept(), 0);
        assert_eq!(counter.count().await, 1);
    });
}
