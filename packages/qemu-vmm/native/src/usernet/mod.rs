//! The user-mode network as an object of JavaScript. Frames cross in batches, the rest is rare.

mod answer;
mod calls;
mod options;
mod serve;
mod state;

use std::cell::RefCell;
use std::os::fd::{AsFd, AsRawFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

use ::usernet::batch::Out;
use ::usernet::config::{Forward, Protocol};
use ::usernet::net::Net;
use ::usernet::question::Question;
use napi::Env;
use napi::bindgen_prelude::{Function, JsValue, Uint8ArraySlice, Unknown};
use napi_derive::napi;

use crate::errno::{Result, js};
use crate::watch::Watch;
use answer::UserAnswer;
use calls::Calls;
use options::{UserForward, UserNetOptions};
use serve::{Loan, Returned, Serving};
use state::UserState;

/// A network with its guest's card on the other side of a link.
#[napi]
#[derive(Debug)]
pub struct UserNet {
    inner: Rc<RefCell<Inner>>,
}

#[derive(Debug)]
struct Inner {
    /// None once it was closed, or when a defect was met.
    net: Option<Net>,
    watch: Option<Rc<Watch>>,
    /// Queues of the card that were lent. Strange ones stay here, and are left alone, until the card has them back.
    serving: Option<Serving>,
    /// The card has to have them back.
    strange: bool,
}

impl Inner {
    /// True when there is nothing for JavaScript to do.
    fn run(&mut self) -> bool {
        let Some(serving) = self.serving.as_mut().filter(|_| !self.strange) else { return false };
        self.strange = serving.run(&mut self.net).is_err();
        !self.strange
    }
}

/// Somebody kicked, or the network has something. JavaScript is called when nothing is borrowed.
fn run(inner: &Rc<RefCell<Inner>>) -> bool {
    // Nobody calls this from within a call: all of them return before the event loop goes on.
    inner.try_borrow_mut().is_ok_and(|mut inner| inner.run())
}

/// A connection of the guest's that the program is asked about.
#[napi(object)]
#[derive(Debug)]
pub struct UserQuestion {
    /// Names it in `answer`.
    pub id: f64,
    /// UDP, not TCP.
    pub udp: bool,
    /// The guest's end, as address and port.
    pub guest: String,
    /// Whom it wants to reach.
    pub peer: String,
}

/// How much is in use.
#[napi(object)]
#[derive(Debug)]
pub struct UserUsage {
    /// TCP connections.
    pub tcp: u32,
    /// Bytes of their buffers.
    pub tcp_memory: f64,
    /// Ports of UDP that the guest uses.
    pub udp: u32,
}

#[napi]
impl UserNet {
    /// Throws for options that do not fit together, and when the host has no more descriptors.
    #[napi(constructor)]
    pub fn new(options: UserNetOptions) -> Result<Self> {
        let net = Net::new(options.config()?).map_err(|error| io(&error, "a user-mode network"))?;
        let inner = Inner { net: Some(net), watch: None, serving: None, strange: false };
        Ok(Self { inner: Rc::new(RefCell::new(inner)) })
    }

    /// Calls `on_ready` from the event loop when `poll` has something to do, or lent queues have to go back.
    #[napi]
    pub fn watch(&mut self, env: Env, on_ready: Function<'_, (), ()>) -> Result<()> {
        let mut inner = self.inner.borrow_mut();
        let fd = inner.net.as_ref().ok_or_else(gone)?.as_fd().as_raw_fd();
        if let Some(watch) = inner.watch.take() {
            watch.close();
        }
        let this = Rc::downgrade(&self.inner);
        let served = Box::new(move || this.upgrade().is_some_and(|inner| run(&inner)));
        inner.watch = Some(Watch::start_unless(env.raw(), fd, &on_ready, served)?);
        Ok(())
    }

    /// Serves the queues of a card from now on, whose kicks are no longer JavaScript's, until `stop`. `calls` are those of the
    /// machine, and `now_us` is the time. Throws for what cannot be, and nothing is served then.
    #[napi]
    pub fn serve(&mut self, env: Env, loan: Loan, calls: Unknown<'_>, now_us: f64) -> Result<()> {
        let mut inner = self.inner.borrow_mut();
        if inner.watch.is_none() || inner.serving.is_some() {
            return Err(js(libc::EBUSY, "queues of a card"));
        }
        let mut serving = Serving::new(&loan, Calls::of(env.raw(), calls.raw())?, now_us)?;
        let this = Rc::downgrade(&self.inner);
        let kicked: Rc<dyn Fn()> = Rc::new(move || {
            let Some(inner) = this.upgrade() else { return };
            if run(&inner) {
                return;
            }
            // Not borrowed: JavaScript calls back.
            let watch = inner.borrow().watch.clone();
            if let Some(watch) = watch {
                watch.call();
            }
        });
        serving.kicks.watch(env.raw(), &kicked)?;
        inner.serving = Some(serving);
        inner.strange = false;
        Ok(())
    }

    /// Looks at lent queues as if they were kicked. False when they have to go back.
    #[napi]
    pub fn kick(&mut self) -> bool {
        self.inner.borrow_mut().run()
    }

    /// Lent queues have to go back: by `stop`.
    #[napi(getter)]
    pub fn strange(&self) -> bool {
        self.inner.borrow().strange
    }

    /// Ends `serve`; null when nothing is lent. Frames for which the driver had no buffers go behind the `used` bytes of `out`.
    #[napi]
    pub fn stop(&mut self, mut out: Uint8ArraySlice<'_>, used: u32) -> Option<Returned> {
        let mut inner = self.inner.borrow_mut();
        inner.strange = false;
        // SAFETY: as in `input`.
        Some(inner.serving.take()?.end(unsafe { out.as_mut() }, used as usize))
    }

    /// Takes the records of `batch`, and writes answers behind the `used` bytes of `out`. Returns how many
    /// bytes of `out` are used then; -1 when the network had a defect and is gone.
    #[napi]
    pub fn input(
        &mut self,
        now_us: f64,
        batch: Uint8ArraySlice<'_>,
        mut out: Uint8ArraySlice<'_>,
        used: u32,
    ) -> i32 {
        self.guarded(|net| {
            // SAFETY: JavaScript does not run meanwhile, and nothing else looks at the memory.
            let mut out = Out::new(unsafe { out.as_mut() }, used as usize);
            net.input(now_us as u64, &batch, &mut out);
            out.used() as i32
        })
    }

    /// Writes what there is for the guest behind the `used` bytes of `out`. Returns twice the number of
    /// bytes that are used then, and 1 more when it should be called again; -1 as `input`.
    #[napi]
    pub fn poll(&mut self, now_us: f64, mut out: Uint8ArraySlice<'_>, used: u32) -> i32 {
        self.guarded(|net| {
            // SAFETY: as in `input`.
            let mut out = Out::new(unsafe { out.as_mut() }, used as usize);
            let more = net.poll(now_us as u64, &mut out);
            (out.used() as i32) << 1 | i32::from(more)
        })
    }

    /// What the guest's card accepts in headers.
    #[napi]
    pub fn set_accepts(&mut self, accepts: u32) {
        if let Some(net) = &mut self.inner.borrow_mut().net {
            net.set_accepts(accepts);
        }
    }

    /// Opens a port of the host that leads into the guest, and returns its number for `remove_forward`.
    #[napi]
    pub fn add_forward(&mut self, forward: UserForward) -> Result<u32> {
        let forward: Forward = forward.parse()?;
        let mut inner = self.inner.borrow_mut();
        let net = inner.net.as_mut().ok_or_else(gone)?;
        net.add_forward(forward).map_err(|error| io(&error, "a forward"))
    }

    /// Where a forward listens; null for a UNIX socket.
    #[napi]
    pub fn forward_address(&self, id: u32) -> Option<String> {
        Some(self.inner.borrow().net.as_ref()?.forward_address(id)?.to_string())
    }

    /// Closes a forward again.
    #[napi]
    pub fn remove_forward(&mut self, id: u32) {
        if let Some(net) = &mut self.inner.borrow_mut().net {
            net.remove_forward(id);
        }
    }

    /// The connections that wait for `answer`, each once.
    #[napi]
    pub fn questions(&mut self) -> Vec<UserQuestion> {
        let questions = self.inner.borrow_mut().net.as_mut().map(Net::questions);
        let questions = questions.unwrap_or_default();
        let question = |question: Question| UserQuestion {
            id: question.id as f64,
            udp: question.protocol == Protocol::Udp,
            guest: question.guest.to_string(),
            peer: question.peer.to_string(),
        };
        questions.into_iter().map(question).collect()
    }

    /// Says what becomes of a connection. It owns the descriptor of the answer from now on. Answers go where
    /// those of `input` go. Throws for an answer that cannot be understood; one that is too late is dropped.
    #[napi]
    pub fn answer(
        &mut self,
        now_us: f64,
        id: f64,
        answer: UserAnswer,
        mut out: Uint8ArraySlice<'_>,
        used: u32,
    ) -> Result<i32> {
        let answer = answer.parse()?;
        Ok(self.guarded(|net| {
            // SAFETY: as in `input`.
            let mut out = Out::new(unsafe { out.as_mut() }, used as usize);
            net.answer(now_us as u64, id as u64, answer, &mut out);
            out.used() as i32
        }))
    }

    /// How much is in use.
    #[napi]
    pub fn usage(&self) -> UserUsage {
        let usage = self.inner.borrow().net.as_ref().map(Net::usage).unwrap_or_default();
        UserUsage {
            tcp: usage.tcp as u32,
            tcp_memory: usage.tcp_memory as f64,
            udp: usage.udp as u32,
        }
    }

    /// What a saved machine has of it; null when it is gone.
    #[napi]
    pub fn save(&self) -> Option<UserState> {
        Some(self.inner.borrow().net.as_ref()?.save().into())
    }

    /// Goes on with the guest of a saved machine; `poll` has to be called then. Throws for what is no state, and
    /// nothing is changed then.
    #[napi]
    pub fn load(&mut self, state: UserState) -> Result<()> {
        let state = state.parse()?;
        let mut inner = self.inner.borrow_mut();
        let net = inner.net.as_mut().ok_or_else(gone)?;
        net.load(state).map_err(|error| js(libc::EINVAL, &error.to_string()))
    }

    /// Closes all sockets.
    #[napi]
    pub fn close(&mut self) {
        let mut inner = self.inner.borrow_mut();
        if let Some(watch) = inner.watch.take() {
            watch.close();
        }
        inner.serving = None;
        inner.net = None;
    }

    /// What a guest sends must not end the process, even if it meets a defect.
    fn guarded(&mut self, run: impl FnOnce(&mut Net) -> i32) -> i32 {
        let result = {
            let mut inner = self.inner.borrow_mut();
            let Some(net) = &mut inner.net else { return -1 };
            catch_unwind(AssertUnwindSafe(|| run(net)))
        };
        result.unwrap_or_else(|_| {
            self.close();
            -1
        })
    }
}

impl Drop for UserNet {
    fn drop(&mut self) {
        self.close();
    }
}

fn gone() -> napi::Error<crate::errno::Code> {
    js(libc::EBADF, "a user-mode network that was closed")
}

fn io(error: &std::io::Error, what: &str) -> napi::Error<crate::errno::Code> {
    js(error.raw_os_error().unwrap_or(libc::EIO), what)
}
