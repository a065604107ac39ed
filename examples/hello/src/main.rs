//! The smallest application: one line on stdout.

fn main() {
    println!("¡Hola desde Qyvol WASI!");
}
