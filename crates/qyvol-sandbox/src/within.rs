//! Whether one set of permissions has all that another asks for.

use crate::capability::Capability;
use crate::{Args, Capabilities, Env, Exec, FsAccess, Gfx, Net, Stdio};

/// What `env`, `args` and `stdio` are that nobody has restricted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Given {
    /// Nothing that was asked for: a program gets them without asking.
    Unasked,
    /// All that they allow.
    Everything,
}

impl Capabilities {
    /// What `asked` has and `self` has not, each as a line: `net: connect api.example:443`.
    pub fn lacks(&self, asked: &Capabilities, given: Given) -> Vec<String> {
        let mut lacking = Vec::new();
        let mut check = |name: &str, has: bool, asked: &dyn std::fmt::Display| {
            if !has {
                lacking.push(format!("{name}: {asked}"));
            }
        };
        let unasked = given == Given::Unasked;
        check(FsAccess::NAME, self.fs.has(&asked.fs), &asked.fs);
        check(Net::NAME, self.net.has(&asked.net), &asked.net);
        check(Exec::NAME, self.exec.has(&asked.exec), &asked.exec);
        check(Gfx::NAME, self.gfx.0 || !asked.gfx.0, &asked.gfx);
        let env = self.env.has(&asked.env) || (unasked && asked.env == Env::default());
        check(Env::NAME, env, &asked.env);
        let args = self.args == Args::Any || asked.args == Args::Fixed || unasked;
        check(Args::NAME, args, &asked.args);
        let stdio = asked.stdio.within(self.stdio) == asked.stdio || (unasked && asked.stdio == Stdio::default());
        check(Stdio::NAME, stdio, &asked.stdio);
        lacking
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::parse_app_manifest;

    fn asked(permissions: &str) -> Capabilities {
        let text = format!("name: a\nentrypoint: a.wasm\npermissions: {permissions}\n");
        Capabilities::read(&parse_app_manifest(&text).unwrap().permissions).unwrap()
    }

    // [COMP-004] [COMP-005]
    #[test]
    fn permissions_beyond_those_granted_are_reported() {
        for (has, wants, lacking) in [
            ("{}", "{}", ""),
            ("full", "full", ""),
            ("{}", "full", "fs: full|net: true|exec: true"),
            ("{ fs: write }", "{ fs: { read: [/a], write: [/b] } }", ""),
            ("{ fs: write }", "{ fs: full }", "fs: full"),
            ("{ fs: read }", "{ fs: { read: [/a] } }", ""),
            ("{ fs: read }", "{ fs: { write: [/a] } }", "fs: write /a"),
            (
                "{ fs: { read: [/a], write: [/b] } }",
                "{ fs: { read: [/a/c, /b], write: [/b/d] } }",
                "",
            ),
            ("{ fs: { read: [/a] } }", "{ fs: { read: [/ab] } }", "fs: read /ab"),
            ("{ fs: { read: [/a] } }", "{ fs: { write: [/a] } }", "fs: write /a"),
            (
                "{ fs: { read: [/a], write: [/a/b] } }",
                "{ fs: { write: [/a] } }",
                "fs: write /a",
            ),
            ("{ fs: { read: [/a] } }", "{ fs: read }", "fs: read"),
            ("{ net: true }", "{ net: { connect: [\"a.b:1\"] } }", ""),
            (
                "{ net: { connect: [\"*.b:*\"] } }",
                "{ net: { connect: [\"a.b:1\", \"*.c.b:2\"] } }",
                "",
            ),
            (
                "{ net: { connect: [\"*.b:*\"] } }",
                "{ net: { connect: [\"b:1\"] } }",
                "net: connect b:1",
            ),
            (
                "{ net: { connect: [\"a.b:1\"] } }",
                "{ net: { connect: [\"a.b:*\"] } }",
                "net: connect a.b:*",
            ),
            (
                "{ net: { connect: [\"10.0.0.0/8:1\"] } }",
                "{ net: { connect: [\"10.1.2.3:1\"] } }",
                "",
            ),
            (
                "{ net: { connect: [\"10.1.0.0/16:1\"] } }",
                "{ net: { connect: [\"10.0.0.0/8:1\"] } }",
                "net: connect 10.0.0.0/8:1",
            ),
            (
                "{ net: { connect: [\"0.0.0.0/0:*\"] } }",
                "{ net: { listen: [\"127.0.0.1:80\"] } }",
                "net: listen 127.0.0.1:80",
            ),
            ("{ net: { connect: [\"a.b:1\"] } }", "{ net: true }", "net: true"),
            ("{ exec: [/bin/a] }", "{ exec: [/bin/a] }", ""),
            ("{ exec: [/bin/a] }", "{ exec: [/bin/b] }", "exec: /bin/b"),
            ("{ exec: [/bin/a] }", "{ exec: true }", "exec: true"),
            ("{ env: [\"A_*\", B] }", "{ env: [A_X, \"A_B*\", B] }", ""),
            ("{ env: [A, B] }", "{ env: [\"A*\"] }", "env: A*"),
            (
                "{ env: fixed, stdio: [stdout] }",
                "{ env: [A], stdio: [stdin] }",
                "env: A|stdio: stdin",
            ),
            ("{ stdio: [stdout] }", "{ stdio: none }", ""),
        ] {
            let found = asked(has).lacks(&asked(wants), Given::Unasked).join("|");
            assert_eq!(found, lacking, "{has} {wants}");
        }
        // What is given without asking counts where everything does.
        let closed = asked("{ env: fixed, args: fixed, stdio: none }");
        assert_eq!(closed.lacks(&asked("{}"), Given::Unasked), Vec::<String>::new());
        assert_eq!(
            closed.lacks(&asked("{}"), Given::Everything),
            ["env: any", "args: any", "stdio: stdin stdout stderr"]
        );
    }
}
