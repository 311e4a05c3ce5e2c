// One line of a plan, as Python wrote it, and the readers that check it.
#pragma once

#include <initializer_list>
#include <map>
#include <optional>
#include <set>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "kernels/arguments.h"

namespace convscope {

struct Shape {
    Index channels = 0;
    Index height = 0;
    Index width = 0;

    Index positions() const { return channels * height * width; }
    bool operator==(const Shape&) const = default;
};

std::string text(const Shape& shape);

struct Attribute {
    std::vector<double> numbers;            // one for a scalar
    std::vector<std::vector<Index>> lists;  // a connection table
};

struct Record {
    std::string kind;
    std::string name;
    std::vector<int> inputs;
    int output = -1;  // losses have none
    std::map<std::string, Attribute> attributes;
    std::map<std::string, Index> parameters;
    std::map<std::string, Index> state;
    bool trainable = true;
    // Of its input in 8 bits, x = scale · (q − zero): scale and zero. For evaluation in low precision alone.
    std::optional<std::pair<float, float>> quantised;
};

// What Python sees as ValueError; the text begins with the record's name and kind.
[[noreturn]] void refuse(const Record& record, const std::string& why);

struct Size {
    Index y = 0;
    Index x = 0;
};

// Reads attributes one by one; `finish` refuses those nobody asked for.
class Attributes {
public:
    explicit Attributes(const Record& record) : record_(record) {}

    double number(const std::string& name, double fallback);
    Index whole(const std::string& name, Index least);  // required
    Index whole(const std::string& name, Index least, Index fallback);
    Size size(const std::string& name, Index least);  // required
    Size size(const std::string& name, Index least, Size fallback);
    const std::vector<std::vector<Index>>* table(const std::string& name);
    std::vector<double> numbers(const std::string& name);                // empty where it is absent
    std::vector<Index> wholes(const std::string& name, Index least);     // required
    Shape shape(const std::string& name);                                // required, three numbers of at least 1
    void finish() const;

private:
    const Attribute* find(const std::string& name);
    Index whole_of(const std::string& name, double value, Index least) const;

    const Record& record_;
    std::set<std::string> read_;
};

// Where a parameter (or state) of `count` floats lies; −1 when it is optional and absent.
struct Place {
    Index offset = -1;
    Index count = 0;
    bool present() const { return offset >= 0; }
};

Place required_place(const Record& record, const std::map<std::string, Index>& from, const std::string& name,
                     Index count);
Place optional_place(const std::map<std::string, Index>& from, const std::string& name, Index count);

// Refuses names outside `known`.
void check_names(const Record& record, const std::map<std::string, Index>& given,
                 std::initializer_list<const char*> known);

void check_input_count(const Record& record, std::size_t given, std::size_t least, std::size_t most);

}  // namespace convscope
