//! Prints tables of aligned columns.

/// Prints a title, a header and rows of cells in aligned columns.
pub fn table<const N: usize>(title: &str, header: [&str; N], rows: &[[String; N]]) {
    println!("\n{title}");
    let header = header.map(str::to_owned);
    let all = || std::iter::once(&header).chain(rows);
    let widths: Vec<usize> = (0..N).map(|at| all().map(|row| row[at].len()).max().unwrap_or(0)).collect();
    for row in all() {
        let cells: Vec<String> =
            row.iter().zip(&widths).map(|(cell, width)| format!("{cell:>width$}")).collect();
        println!("  {}", cells.join("   "));
    }
}
