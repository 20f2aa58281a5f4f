//! Tasks and channels under tokio's paused clock.

use std::{cell::Cell, rc::Rc, time::Duration};

use tokio::{sync::mpsc, task::LocalSet, time::sleep};

/// Passes so many messages; returns how many.
pub fn pass(nodes: u32, messages: u64) -> u64 {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let Ok(runtime) = runtime else { return 0 };
    let heard = Rc::new(Cell::new(0_u64));
    let (senders, receivers): (Vec<_>, Vec<_>) = (0..nodes).map(|_| mpsc::unbounded_channel::<[u8; 16]>()).unzip();
    let senders = Rc::new(senders);
    let tasks = LocalSet::new();
    for (node, mut receiver) in receivers.into_iter().enumerate() {
        let (senders, heard) = (Rc::clone(&senders), Rc::clone(&heard));
        tasks.spawn_local(async move {
            let mut random = node as u64;
            // The node waits for the link: cheaper than a task or a queue for each message.
            while let Some(message) = receiver.recv().await {
                heard.set(heard.get() + 1);
                random = random.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
                sleep(Duration::from_millis(1 + (random >> 40) % 10)).await;
                let next = (node + 1 + (random >> 60) as usize % 4) % senders.len();
                let _closed = senders[next].send(message);
            }
        });
    }
    senders.iter().for_each(|sender| {
        let _open = sender.send([1; 16]);
    });
    runtime.block_on(tasks.run_until(async {
        while heard.get() < messages {
            sleep(Duration::from_millis(50)).await;
        }
    }));
    heard.get()
}
