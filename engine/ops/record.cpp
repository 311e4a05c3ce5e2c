#include "ops/record.h"

#include <algorithm>
#include <cmath>

namespace convscope {

std::string text(const Shape& shape) {
    return "(" + std::to_string(shape.channels) + ", " + std::to_string(shape.height) + ", " +
           std::to_string(shape.width) + ")";
}

void refuse(const Record& record, const std::string& why) {
    throw std::invalid_argument(record.name + " (" + record.kind + "): " + why);
}

const Attribute* Attributes::find(const std::string& name) {
    read_.insert(name);
    const auto found = record_.attributes.find(name);
    return found == record_.attributes.end() ? nullptr : &found->second;
}

Index Attributes::whole_of(const std::string& name, double value, Index least) const {
    if (value != std::floor(value) || value < static_cast<double>(least) || value > 1e9)
        refuse(record_, "attribute '" + name + "' is " + std::to_string(value) + ", wanted an integer of at least " +
                            std::to_string(least));
    return static_cast<Index>(value);
}

double Attributes::number(const std::string& name, double fallback) {
    const Attribute* found = find(name);
    if (!found) return fallback;
    if (found->numbers.size() != 1) refuse(record_, "attribute '" + name + "' wants one number");
    return found->numbers[0];
}

Index Attributes::whole(const std::string& name, Index least, Index fallback) {
    return whole_of(name, number(name, static_cast<double>(fallback)), least);
}

Index Attributes::whole(const std::string& name, Index least) {
    if (!find(name)) refuse(record_, "attribute '" + name + "' is missing");
    return whole(name, least, 0);
}

Size Attributes::size(const std::string& name, Index least, Size fallback) {
    const Attribute* found = find(name);
    if (!found) return fallback;
    const std::vector<double>& numbers = found->numbers;
    if (numbers.size() != 1 && numbers.size() != 2) refuse(record_, "attribute '" + name + "' wants [height, width]");
    return {whole_of(name, numbers.front(), least), whole_of(name, numbers.back(), least)};
}

Size Attributes::size(const std::string& name, Index least) {
    if (!find(name)) refuse(record_, "attribute '" + name + "' is missing");
    return size(name, least, {});
}

const std::vector<std::vector<Index>>* Attributes::table(const std::string& name) {
    const Attribute* found = find(name);
    if (!found) return nullptr;
    if (found->lists.empty()) refuse(record_, "attribute '" + name + "' wants a list of lists of input maps");
    return &found->lists;
}

std::vector<double> Attributes::numbers(const std::string& name) {
    const Attribute* found = find(name);
    return found ? found->numbers : std::vector<double>{};
}

std::vector<Index> Attributes::wholes(const std::string& name, Index least) {
    if (!find(name)) refuse(record_, "attribute '" + name + "' is missing");
    std::vector<Index> found;
    for (const double each : numbers(name)) found.push_back(whole_of(name, each, least));
    return found;
}

Shape Attributes::shape(const std::string& name) {
    const std::vector<Index> sides = wholes(name, 1);
    if (sides.size() != 3) refuse(record_, "attribute '" + name + "' wants [channels, height, width]");
    return {sides[0], sides[1], sides[2]};
}

void Attributes::finish() const {
    for (const auto& [name, attribute] : record_.attributes)
        if (!read_.contains(name)) {
            std::string known;
            for (const std::string& each : read_) known += (known.empty() ? "" : ", ") + each;
            refuse(record_, "unknown attribute '" + name + "'; it has: " + (known.empty() ? "none" : known));
        }
}

Place required_place(const Record& record, const std::map<std::string, Index>& from, const std::string& name,
                     Index count) {
    const Place place = optional_place(from, name, count);
    if (!place.present()) refuse(record, "parameter or state '" + name + "' is missing");
    return place;
}

Place optional_place(const std::map<std::string, Index>& from, const std::string& name, Index count) {
    const auto found = from.find(name);
    return found == from.end() ? Place{} : Place{found->second, count};
}

void check_names(const Record& record, const std::map<std::string, Index>& given,
                 std::initializer_list<const char*> known) {
    for (const auto& [name, offset] : given)
        if (std::none_of(known.begin(), known.end(), [&](const char* each) { return name == each; }))
            refuse(record, "unknown parameter or state '" + name + "'");
}

void check_input_count(const Record& record, std::size_t given, std::size_t least, std::size_t most) {
    if (given < least || given > most)
        refuse(record, "has " + std::to_string(given) + " inputs, wanted " +
                           (least == most ? std::to_string(least) : "at least " + std::to_string(least)));
}

}  // namespace convscope
