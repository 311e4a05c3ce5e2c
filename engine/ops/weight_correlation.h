// Gradients of kernels: for each output map and each tap, the sum over positions and images of δ times the input there.
#pragma once

#include <vector>

#include "kernels/table.h"
#include "ops/connections.h"
#include "ops/record.h"
#include "ops/team.h"

namespace convscope {

class WeightCorrelation {
public:
    struct Tap {
        Index row, column;  // in the input, from where the output position reads
    };

    struct Call {
        const KernelTable* kernels = nullptr;
        Maps input;              // data: what output row 0, column 0 reads with a tap of {0, 0}
        Index input_rows = 1;    // from output row to output row
        Index input_columns = 1;
        Maps delta;              // [output map][rows][columns], all of them are used
        float* gradient = nullptr;  // [connection][tap]
        bool accumulate = false;
    };

    WeightCorrelation() = default;
    // `sources[to]`: ascending input maps of each output map. `taps` in the order of the weights.
    WeightCorrelation(const KernelTable& kernels, const Connections& sources,
                      std::vector<Tap> taps);

    // Told how the input lies in memory.
    void arrange(const Maps& input);
    // A team shares out blocks of output maps.
    void run(const Call& call, const Team& team = {}) const;

    Index gradient_count() const { return connections_ * static_cast<Index>(taps_.size()); }
    // Of one position of all maps, by the model.
    double cycles() const;
    // Of adding up the lanes of everything once.
    double closing_cycles() const;
    std::string describe() const;

private:
    // Output maps whose gradients share registers, and the taps they share.
    struct Block {
        Index first = 0;
        int maps = 0;
        Index weight = 0;            // of the first map's first tap
        Index weight_step = 0;       // to the next map's
        std::size_t reach = 0;       // in reaches_: blocks of the same input maps share one
        std::shared_ptr<const std::vector<int>> groups;  // taps taken together
    };
    struct Reach {
        std::shared_ptr<const Connections::List> sources;
        std::vector<Index> offsets;  // of each tap, from the input's data, in order of the weights
    };
    struct Tiling {
        Index rows, taps;
    };

    std::vector<int> tap_groups(int maps, std::size_t taps, double* cycles) const;
    Tiling tiling(const Call& call) const;
    void run_tiles(const Call& call, const Block& block, Index from, Index to, WeightGradient& a) const;

    const KernelTable* kernels_ = nullptr;
    std::vector<Tap> taps_;
    std::vector<Block> blocks_;
    std::vector<Reach> reaches_;
    Index connections_ = 0;
    Index longest_ = 0;  // taps of the block with most
    double cycles_ = 0;
};

}  // namespace convscope
