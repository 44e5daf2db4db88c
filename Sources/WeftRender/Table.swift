// A table with aligned columns. The last column is as wide as its longest cell, and is not filled.

struct Table {
    private let columns: [String]
    private let alignedRight: Set<Int>
    private let options: TextOptions
    private var rows: [(cells: [String], paints: [Int: Paint])] = []

    /// - Parameter alignedRight: the columns of numbers, by index.
    init(columns: [String], alignedRight: Set<Int> = [], options: TextOptions) {
        self.columns = columns
        self.alignedRight = alignedRight
        self.options = options
    }

    /// - Parameter paints: by column.
    mutating func add(_ cells: [String], paints: [Int: Paint] = [:]) {
        rows.append((cells, paints))
    }

    /// Writes the table, indented by two blanks, with two blanks between columns.
    func write(to page: inout Page) {
        let widths = columns.indices.map { column in
            rows.reduce(columns[column].columns) { max($0, $1.cells[column].columns) }
        }
        func line(_ cells: [String], _ paints: [Int: Paint]) -> String {
            cells.enumerated().map { column, cell in
                let filled =
                    alignedRight.contains(column)
                    ? cell.aligned(to: widths[column])
                    : column == cells.count - 1 ? cell : cell.padded(to: widths[column])
                return options.painted(filled, paints[column])
            }.joined(separator: "  ")
        }
        let heading = line(columns, [:])
        page.plain("  " + options.painted(heading, .heading))
        for row in rows { page.plain("  " + line(row.cells, row.paints)) }
    }
}
